package opencmg

// Places of a client that listens for notification.
const (
	PlaceInternet = "internet" // it came through a gateway
	PlaceIntranet = "intranet"
)

// OnlineClients counts the clients that listen for notification at a
// management point: those in one place that proved themselves in one way.
type OnlineClients struct {
	Place string `json:"place"` // PlaceInternet or PlaceIntranet
	// Auth is how they proved themselves, or how they registered when they only
	// signed what they sent.
	Auth    AuthMode `json:"auth"`
	Clients int64    `json:"clients"`
}

// MaxOnlineCounts bounds a list of OnlineClients: each place with each
// authentication mode, and room for modes to come.
const MaxOnlineCounts = 32
