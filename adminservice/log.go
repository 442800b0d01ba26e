package adminservice

import "time"

// A LogFile is a log file that the site has: its own (CloudMgr.log), or what it
// keeps of the log of a gateway instance (CMG-<service>-<instance>-<log>.log,
// cmg-behaviour G51), a connection point (CP-<name>-<log>.log) or a management
// point (MP-<name>-<log>.log). A name that ends in .lo_ is the file before it.
type LogFile struct {
	Name    string    `json:"name"`
	Size    int64     `json:"size"` // bytes
	Changed time.Time `json:"changed"`
	// From is who reports the lines, of a file that the site keeps for another
	// part; empty when nobody does any more, and for the site's own files. Its
	// last report was at Reported (zero: none since the site started): what the
	// part had written until about then is here.
	From     string    `json:"from,omitempty"`
	Reported time.Time `json:"reported,omitzero"`
	// DelaySeconds is how old the newest lines were when they came last, by the
	// clocks of the part and of the site; 0 when none came since the site
	// started.
	DelaySeconds float64 `json:"delaySeconds,omitempty"`
}

// LogPosition is the header field of GET Logs/{id} that says where the answer
// ends: the value of after in the next request, which then gets what was written
// since.
const LogPosition = "Log-Position"

// MaxLogAnswer bounds what one GET Logs/{id} answers, in bytes, unless it asks
// for the whole: that is as long as the file and the one before it, which are
// renamed at 250,000 bytes. DefaultLogTail
// is how much it answers when the request names neither tail nor after.
const (
	MaxLogAnswer   = 4 << 20
	DefaultLogTail = 64 << 10
)
