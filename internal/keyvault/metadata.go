package keyvault

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// DefaultMetadata is where a machine finds the metadata service of its cloud.
const DefaultMetadata = "http://169.254.169.254"

// Metadata is the instance metadata service of the machine this process runs
// on.
type Metadata struct {
	URL  string // default [DefaultMetadata]
	HTTP *http.Client
}

// A Machine is this machine as its cloud sees it.
type Machine struct {
	// ID is the number of the machine in its scale set. The cloud never gives
	// the same one twice.
	ID       string
	Name     string
	ScaleSet string
	Location string
}

// Machine asks which machine this is. One that belongs to no scale set is an
// error of kind Invalid.
func (m *Metadata) Machine(ctx context.Context) (Machine, error) {
	var answer struct {
		Name     string `json:"name"`
		ScaleSet string `json:"vmScaleSetName"`
		Location string `json:"location"`
	}
	if err := m.get(ctx, "/metadata/instance/compute?api-version=2021-02-01&format=json", &answer); err != nil {
		return Machine{}, err
	}
	out := Machine{Name: answer.Name, ScaleSet: answer.ScaleSet, Location: answer.Location}
	i := strings.LastIndexByte(answer.Name, '_')
	if i < 0 || answer.ScaleSet == "" || !strings.EqualFold(answer.Name[:i], answer.ScaleSet) {
		return out, opencmg.Errorf(opencmg.Invalid, "the cloud calls this machine %q of scale set %q: a gateway's machine must be one of a scale set with uniform orchestration, named <scale set>_<number>", answer.Name, answer.ScaleSet)
	}
	if _, err := strconv.ParseUint(answer.Name[i+1:], 10, 32); err != nil {
		return out, opencmg.Errorf(opencmg.Invalid, "the cloud calls this machine %q, which does not end in a number", answer.Name)
	}
	out.ID = answer.Name[i+1:]
	return out, nil
}

// Token gets a token of the machine's managed identity for an audience.
// clientID chooses one of several identities; empty means the only one.
func (m *Metadata) Token(ctx context.Context, audience, clientID string) (token string, expires time.Time, err error) {
	q := url.Values{"api-version": {"2018-02-01"}, "resource": {audience}}
	if clientID != "" {
		q.Set("client_id", clientID)
	}
	var answer struct {
		Token     string      `json:"access_token"`
		ExpiresOn json.Number `json:"expires_on"` // a string in the real service; Number takes both
	}
	if err := m.get(ctx, "/metadata/identity/oauth2/token?"+q.Encode(), &answer); err != nil {
		return "", time.Time{}, err
	}
	seconds, err := answer.ExpiresOn.Int64()
	if answer.Token == "" || err != nil {
		return "", time.Time{}, opencmg.Errorf(opencmg.Unavailable, "the metadata service answered without a token and its end")
	}
	return answer.Token, time.Unix(seconds, 0), nil
}

func (m *Metadata) get(ctx context.Context, path string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(cmp.Or(m.URL, DefaultMetadata), "/")+path, nil)
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "metadata service: %w", err)
	}
	req.Header.Set("Metadata", "true")
	return call(noRedirects(m.HTTP), req, to)
}
