// Package connpoint is the connection point: the on-premises role that dials
// out to every instance of its gateways, keeps those tunnels, and forwards the
// requests that arrive on them to internal site roles by URL mapping. Nothing
// ever dials in to it.
//
// A [Connector] is made from a [Config] and works while [Connector.Run] runs.
// [opencmg.URLMappings] say which role is where. forward.go follows one request.
//
// The package does not authenticate clients: the gateway did, and its verdict
// arrives as the identity of the request. It does not decide what is
// published either, and answers only for roles that have a mapping.
package connpoint
