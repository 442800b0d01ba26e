package adminservice

import (
	"log/slog"
	"time"

	"github.com/opencmg/opencmg"
)

// Ways in which the connection analyzer signs in to a gateway.
const (
	// AnalyzeToken uses a short token of the site's own, for a key that lives as
	// long as the analysis.
	AnalyzeToken = "token"
	// AnalyzeCertificate uses a client certificate that the caller gives.
	AnalyzeCertificate = "client-certificate"
	// AnalyzeEntraUser uses an access token of a user that the caller gives.
	AnalyzeEntraUser = "entra-user"
)

// A NewAnalysis starts the connection analyzer. Credentials in it are kept in
// memory until the analysis ends; String, GoString and LogValue hide them.
type NewAnalysis struct {
	// SignIn is token (default), client-certificate or entra-user.
	SignIn string `json:"signIn,omitempty"`
	// Certificate and Key are a client certificate with its chain, in PEM.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// EntraToken is a user's access token for the site's server application.
	EntraToken string `json:"entraToken,omitempty"`
}

// String hides the credentials.
func (a NewAnalysis) String() string { return "analysis by " + a.SignIn }

// GoString hides the credentials.
func (a NewAnalysis) GoString() string { return a.String() }

// LogValue hides the credentials.
func (a NewAnalysis) LogValue() slog.Value { return slog.StringValue(a.String()) }

// States of an analysis.
const (
	AnalysisRunning   = "running"
	AnalysisCompleted = "completed"
)

// An Analysis is one look of the connection analyzer at a gateway
// (cmg-behaviour 11.2).
type Analysis struct {
	ID        string `json:"id"`
	GatewayID string `json:"gatewayId"`
	Gateway   string `json:"gateway"` // its name
	SignIn    string `json:"signIn"`
	// Account asked for it; empty for the schedule.
	Account string    `json:"account,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	// State is running or completed.
	State string `json:"state"`
	// Failed is the number of rows that failed.
	Failed int           `json:"failed"`
	Rows   []AnalysisRow `json:"rows"`
}

// An AnalysisSchedule is how often the site analyzes a gateway by itself, with a
// token of its own.
type AnalysisSchedule struct {
	// Minutes between two analyses, from 5 to 10080, 60 unless it was changed; 0
	// when the schedule is off.
	Minutes int `json:"minutes"`
	// Last is when the schedule last began one, and Next when it will; Next is
	// absent when the schedule is off, waits, or the gateway is not ready. One that was
	// missed is done as soon as the site and the gateway are ready for it.
	Last time.Time `json:"last,omitzero"`
	Next time.Time `json:"next,omitzero"`
	// Waiting is what has to happen before the schedule begins; empty when it
	// waits for nothing but its time. A self-hosted gateway without a host is not
	// analyzed: it is not broken but not complete.
	Waiting string `json:"waiting,omitempty"`
}

// An AnalysisScheduleChange sets how often the site analyzes a gateway.
type AnalysisScheduleChange struct {
	// Minutes between two analyses, from 5 to 10080, or 0 to turn the schedule
	// off, which closes its alert.
	Minutes *int `json:"minutes"`
}

// An AnalysisRow is one thing that the connection analyzer looked at, in the
// order of cmg-behaviour 11.2. The last row, with the ID summary, counts the
// others.
type AnalysisRow struct {
	// The ID is state, resolve, certificate, configuration, sign-in, tunnel,
	// token-exchange, location, software-update or summary.
	opencmg.Check
	// Instance is the number of the gateway instance; absent when the row is
	// about no single one.
	Instance *int `json:"instance,omitempty"`
	// Role is the role ID and RoleName the name of the role that was asked.
	Role     opencmg.RoleID `json:"role,omitempty"`
	RoleName string         `json:"roleName,omitempty"`
	// HTTPStatus and Reason are what was answered (cmg-behaviour G26).
	HTTPStatus int    `json:"httpStatus,omitempty"`
	Reason     string `json:"reason,omitempty"`
	// CorrelationID is what to explain the request by.
	CorrelationID string  `json:"correlationId,omitempty"`
	Milliseconds  float64 `json:"ms,omitempty"`
}
