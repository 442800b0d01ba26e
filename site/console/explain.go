package console

import (
	"net/url"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// The explain box: the path of one request, with the verdict at each hop.

func explainViews() []view {
	return []view{{pattern: "explain", node: "explain", title: "Explain a request", template: "explain", load: loadExplain}}
}

// explainPage is what the page shows.
type explainPage struct {
	ID   string
	Path *requestPath // nil before an ID was given
}

// A requestPath is an explanation as it is drawn.
type requestPath struct {
	adminservice.Explanation
	Client pathClient
	Hops   []pathHop
	Silent []adminservice.AskedHop // who did not answer
	Heard  int                     // how many answered
}

// A pathClient is who called, as far as somebody knows.
type pathClient struct{ Name, Method, URL string }

// A pathHop is one station of the request.
type pathHop struct {
	Name    string // in words
	Records []opencmg.RequestRecord
	// Silent says that somebody did not answer who may know of it.
	Silent bool
	// Ended says that the request got no further than the hop before.
	Ended bool
}

// Tone is the colour of the hop: that of its last record.
func (h pathHop) Tone() string {
	if len(h.Records) == 0 {
		return "none"
	}
	return statusTone(h.Records[len(h.Records)-1].Status)
}

// statusTone is the colour of an HTTP status.
func statusTone(status int) string {
	switch {
	case status == 0, status >= 500:
		return "bad"
	case status >= 400:
		return "warn"
	}
	return "good"
}

func loadExplain(v *Visit) (any, error) {
	p := explainPage{ID: v.Query("id")}
	if p.ID == "" {
		return p, nil
	}
	e, err := get[adminservice.Explanation](v, "Explanations/"+url.PathEscape(p.ID))
	if err != nil {
		// The box stays, with what was typed.
		v.Problem = err
		return p, nil
	}
	p.Path = drawPath(e)
	return p, nil
}

// drawPath sorts an explanation by hop.
func drawPath(e adminservice.Explanation) *requestPath {
	p := &requestPath{Explanation: e}
	p.Hops = []pathHop{{Name: "Gateway instance"}, {Name: "Connection point"}, {Name: "Role"}}
	at := map[string]int{opencmg.HopGateway: 0, opencmg.HopConnectionPoint: 1, opencmg.HopManagementPoint: 2}
	for _, r := range e.Records {
		i := at[r.Hop]
		p.Hops[i].Records = append(p.Hops[i].Records, r)
		if p.Client.Name == "" {
			p.Client.Name = r.Client
		}
		if p.Client.URL == "" {
			p.Client.Method, p.Client.URL = r.Method, r.Path
		}
	}
	for _, a := range e.Asked {
		if a.Answered {
			p.Heard++
			continue
		}
		p.Silent = append(p.Silent, a)
		p.Hops[at[a.Hop]].Silent = true
	}
	for i := range p.Hops {
		before := i > 0 && len(p.Hops[i-1].Records) > 0
		p.Hops[i].Ended = len(p.Hops[i].Records) == 0 && before && !p.Hops[i].Silent
	}
	return p
}
