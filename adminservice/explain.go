package adminservice

import "github.com/opencmg/opencmg"

// An Explanation is the path of one request through the site, as far as those
// that it passed still know it.
type Explanation struct {
	CorrelationID string `json:"correlationId"`
	// Records are in the order of the path: gateway, connection point,
	// management point. Empty when nobody knows the request.
	Records []opencmg.RequestRecord `json:"records"`
	// Asked are all that may know of it: every connection point and management
	// point of the site, and every instance of its gateways.
	Asked []AskedHop `json:"asked"`
}

// An AskedHop is somebody who was asked about a request.
type AskedHop struct {
	// Hop is gateway, connection-point or management-point.
	Hop string `json:"hop"`
	// Where names it: the instance as gateway/number, or the system's name.
	Where string `json:"where"`
	// Answered is whether it said what it knows, be that nothing.
	Answered bool `json:"answered"`
	// Problem says why it did not answer.
	Problem string `json:"problem,omitempty"`
}
