package adminservice

import (
	"time"

	"github.com/opencmg/opencmg"
)

// The shortest and the longest span of a dashboard, in minutes.
const (
	MinDashboardMinutes = 15
	MaxDashboardMinutes = 90 * 24 * 60
)

// MaxDashboardEndpoints is how many endpoints a dashboard tells apart; the rest
// is counted together as [OtherEndpoints].
const MaxDashboardEndpoints = 8

// OtherEndpoints is the name of the series that counts all endpoints which have
// none of their own.
const OtherEndpoints = "other"

// A Dashboard is how the gateways do and did (GET Dashboard), of one gateway or
// of all. Time is divided into intervals of the same length; every list of
// values has one for each interval, zero where nothing was.
type Dashboard struct {
	From        time.Time `json:"from"` // beginning of the first interval
	To          time.Time `json:"to"`   // now; the last interval is not over
	StepSeconds int       `json:"stepSeconds"`
	// Gateway is the ID of the only one that this is about; empty: all.
	Gateway string      `json:"gateway,omitempty"`
	Times   []time.Time `json:"times"` // when the intervals begin
	// Recent is what was counted lately, whatever the span.
	Recent DashboardRecent `json:"recent"`
	// Endpoints are those with the most requests, the most first, and at last
	// the others together.
	Endpoints []DashboardEndpoint `json:"endpoints"`
	Latency   DashboardLatency    `json:"latency"`
	// Refusals are by cause, the most first.
	Refusals []DashboardCounts `json:"refusals"`
	Online   DashboardOnline   `json:"online"`
	// Held are the requests that wait for notification at the instances.
	Held DashboardGauge `json:"held"`
	// Egress and Storage are of each gateway that this is about.
	Egress  []DashboardEgress  `json:"egress"`
	Storage []DashboardStorage `json:"storage"`
	// Expiry are the credentials in the path that end next, at most 10. They
	// are the whole site's.
	Expiry []Expiry `json:"expiry"`
	// Alerts counts the open ones of the whole site.
	Alerts           DashboardAlerts `json:"alerts"`
	ConnectionPoints DashboardUp     `json:"connectionPoints"`
	Instances        DashboardUp     `json:"instances"`
}

// A DashboardRecent is what was counted in the last whole minute and in the one
// that is not over.
type DashboardRecent struct {
	// Seconds are how long that is, 60 to 120.
	Seconds  int   `json:"seconds"`
	Requests int64 `json:"requests"` // that roles got
	Failed   int64 `json:"failed"`
	Refused  int64 `json:"refused"`
}

// A DashboardEndpoint is the traffic of one endpoint.
type DashboardEndpoint struct {
	Name string `json:"name"`
	// Total is of the whole span.
	Total         DashboardTraffic `json:"total"`
	Requests      []int64          `json:"requests"`
	Failed        []int64          `json:"failed"`
	RequestBytes  []int64          `json:"requestBytes"`
	ResponseBytes []int64          `json:"responseBytes"` // to clients: egress
}

// A DashboardTraffic is what was counted in a span.
type DashboardTraffic struct {
	Requests      int64 `json:"requests"`
	Failed        int64 `json:"failed"`
	RequestBytes  int64 `json:"requestBytes"`
	ResponseBytes int64 `json:"responseBytes"`
}

// A DashboardLatency says how long answers took, in milliseconds: half of them
// at most P50, 95 and 99 of a hundred at most P95 and P99. It leaves out
// refusals, and endpoints whose requests wait by design.
type DashboardLatency struct {
	P50 []float64 `json:"p50"`
	P95 []float64 `json:"p95"`
	P99 []float64 `json:"p99"`
	// Now is of the last five minutes.
	Now DashboardPercentiles `json:"now"`
	// Endpoints are of the whole span, those with the slowest answers (P99)
	// first, at most [MaxDashboardLatencies].
	Endpoints []DashboardEndpointLatency `json:"endpoints"`
}

// MaxDashboardLatencies is of how many endpoints a dashboard says how long their
// answers took: those with the most answers.
const MaxDashboardLatencies = 32

// A DashboardEndpointLatency says how long the answers of one endpoint took.
type DashboardEndpointLatency struct {
	Name string `json:"name"`
	DashboardPercentiles
}

// DashboardPercentiles are in milliseconds; all are 0 without answers.
type DashboardPercentiles struct {
	P50     float64 `json:"p50"`
	P90     float64 `json:"p90"`
	P95     float64 `json:"p95"`
	P99     float64 `json:"p99"`
	Answers int64   `json:"answers"` // that this is about
}

// DashboardCounts are how often something happened.
type DashboardCounts struct {
	Name   string  `json:"name"`
	Total  int64   `json:"total"` // of the whole span
	Counts []int64 `json:"counts"`
}

// A DashboardGauge is how much of something there is and was.
type DashboardGauge struct {
	Name   string    `json:"name,omitempty"`
	Now    int64     `json:"now"`
	Values []float64 `json:"values"`
}

// DashboardOnline are the clients of the whole site that listen for
// notification.
type DashboardOnline struct {
	Now int64 `json:"now"`
	// Counts are those of now by place and authentication.
	Counts []opencmg.OnlineClients `json:"counts"`
	// Places are internet and intranet, and Auths how clients proved themselves.
	Places []DashboardGauge `json:"places"`
	Auths  []DashboardGauge `json:"auths"`
}

// A DashboardEgress compares what a gateway sent to clients in the last 14 days
// with its threshold.
type DashboardEgress struct {
	GatewayID   string  `json:"gatewayId"`
	ServiceName string  `json:"serviceName"`
	GB          float64 `json:"gb"` // in the last 14 days
	// ThresholdGB, and what is warned of, are of the gateway's traffic
	// threshold. Enabled says whether alerts are wanted.
	ThresholdGB int     `json:"thresholdGb"`
	Enabled     bool    `json:"enabled"`
	WarningGB   float64 `json:"warningGb"`
	CriticalGB  float64 `json:"criticalGb"`
	// Course is what the 14 days before the end of each interval came to, in GB.
	// The last one is of now.
	Course []float64 `json:"course"`
	// ForecastGB is what 14 days come to at the rate of the last RateHours: those
	// of the last seven days that the gateway was there for. With less than
	// [MinRateHours] there is no forecast, and WaitHours is how many more it
	// takes. WarningAt and CriticalAt are when the levels will be reached at that
	// rate, and now when they are; without a time they will not.
	ForecastGB float64   `json:"forecastGb"`
	RateHours  int       `json:"rateHours"`
	WaitHours  int       `json:"waitHours"`
	WarningAt  time.Time `json:"warningAt,omitzero"`
	CriticalAt time.Time `json:"criticalAt,omitzero"`
	// Forecast is how the sum goes on at that rate: until it reaches the
	// threshold, or for 14 days, after which it stays as it is.
	Forecast []DashboardForecast `json:"forecast"`
}

// MinRateHours is how long a gateway must have been there for a forecast, in
// hours: nights are unlike days.
const MinRateHours = 24

// A DashboardForecast is what 14 days will have come to at a time.
type DashboardForecast struct {
	At time.Time `json:"at"`
	GB float64   `json:"gb"`
}

// A DashboardStorage compares what a gateway stores with its threshold.
type DashboardStorage struct {
	GatewayID   string  `json:"gatewayId"`
	ServiceName string  `json:"serviceName"`
	GB          float64 `json:"gb"`
	ThresholdGB int     `json:"thresholdGb"`
	Enabled     bool    `json:"enabled"`
	WarningGB   float64 `json:"warningGb"`
	CriticalGB  float64 `json:"criticalGb"`
}

// DashboardAlerts counts alerts by severity.
type DashboardAlerts struct {
	Warning  int `json:"warning"`
	Critical int `json:"critical"`
}

// A DashboardUp is how many of some work, of how many.
type DashboardUp struct {
	Up    int `json:"up"`
	Total int `json:"total"`
}
