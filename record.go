package opencmg

import (
	"regexp"
	"time"
)

// A RequestRecord is the verdict of one hop on one request: what "opencmg
// explain" puts together to a path.
type RequestRecord struct {
	CorrelationID string    `json:"correlationId"`
	Time          time.Time `json:"time"` // when the request began here
	// Hop is gateway, connection-point or management-point.
	Hop string `json:"hop"`
	// Where names the process: the instance, the connection point, the role.
	Where    string `json:"where"`
	Method   string `json:"method,omitempty"`
	Path     string `json:"path,omitempty"`
	Endpoint string `json:"endpoint,omitempty"` // as published
	Role     string `json:"role,omitempty"`     // role ID
	Client   string `json:"client,omitempty"`   // who was calling, as far as that was proved
	Status   int    `json:"status,omitempty"`
	Reason   string `json:"reason,omitempty"` // reason phrase sent
	// Verdict is one sentence for the administrator. It may say what no
	// caller is told.
	Verdict       string        `json:"verdict,omitempty"`
	Details       []string      `json:"details,omitempty"` // what led to the verdict
	Duration      time.Duration `json:"duration"`          // nanoseconds
	RequestBytes  int64         `json:"requestBytes,omitempty"`
	ResponseBytes int64         `json:"responseBytes,omitempty"`
}

// The hops of a request, in its order.
const (
	HopGateway         = "gateway"
	HopConnectionPoint = "connection-point"
	HopManagementPoint = "management-point"
)

// MaxHopRecords bounds what one hop tells about one request.
const MaxHopRecords = 32

var correlationIDPattern = regexp.MustCompile(`^[0-9A-Za-z-]{8,64}$`)

// IsCorrelationID reports whether s has the form of a correlation ID: 8 to 64
// letters, digits and hyphens.
func IsCorrelationID(s string) bool { return correlationIDPattern.MatchString(s) }

// An ExplainRequest asks a gateway instance for its records of one request, on a
// control stream ([ControlExplain]).
type ExplainRequest struct {
	CorrelationID string `json:"correlationId"`
}
