package site_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/site"
)

// analyzerRig is a rig with one gateway, which is wherever dial leads.
func analyzerRig(t *testing.T, dial func(context.Context) (net.Conn, error)) *rig {
	t.Helper()
	r := newRig(t, func(r *rig) {
		r.config = func(c *site.Config) {
			roots := x509.NewCertPool()
			roots.AddCert(r.ca.Certificate())
			c.GatewayTransport = &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots},
				DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			}
		}
	})
	r.s.WaitForConfiguration(0) // nothing here takes any time
	r.connect()
	r.finish(do[adminservice.Operation](r, "POST", "Gateways", r.newGateway()))
	return r
}

// analyze starts the connection analyzer and waits for its end.
func (r *rig) analyze(in adminservice.NewAnalysis) adminservice.Analysis {
	r.t.Helper()
	a := do[adminservice.Analysis](r, "POST", "Gateways/granitefalls/analyze", in)
	for a.State == adminservice.AnalysisRunning {
		a = do[adminservice.Analysis](r, "GET", fmt.Sprintf("Analyses/%s?wait=20&after=%d", a.ID, len(a.Rows)), nil)
	}
	return a
}

// summaryOf are the rows in short.
func summaryOf(a adminservice.Analysis) (rows []string) {
	for _, r := range a.Rows {
		s := r.ID
		if r.Instance != nil {
			s += fmt.Sprint("/", *r.Instance)
		}
		rows = append(rows, s+" "+string(r.State))
	}
	return rows
}

func wantRows(t *testing.T, a adminservice.Analysis, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, summaryOf(a)); diff != "" {
		t.Errorf("rows (-want +got):\n%s\n%+v", diff, a.Rows)
	}
}

func TestAnalyzeUnreachable(t *testing.T) {
	r := analyzerRig(t, func(context.Context) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: serviceName, IsNotFound: true}
	})
	a := r.analyze(adminservice.NewAnalysis{})
	wantRows(t, a, "state pass", "resolve fail", "certificate todo", "configuration/0 fail", "configuration/1 fail", "sign-in todo", "tunnel fail", "location fail", "summary fail")
	if row := a.Rows[1]; !strings.Contains(row.Evidence, "no such host") || !strings.Contains(row.NextStep, "CNAME") {
		t.Errorf("unknown name: %+v", row)
	}
	if a.Failed != 5 || a.Ended.IsZero() || a.Account == "" {
		t.Errorf("analysis: %+v", a)
	}
}

// server is a gateway that answers as it is told, with a certificate of its own.
func (r *rig) server(t *testing.T, cert tls.Certificate, h http.HandlerFunc) (dial func(context.Context) (net.Conn, error), requests *atomic.Int64) {
	requests = new(atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		requests.Add(1)
		h(w, q)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}, requests
}

// TestAnalyzeTrustsNobody: a server whose certificate is not good gets no
// credential, and one that is not the published one is named.
func TestAnalyzeTrustsNobody(t *testing.T) {
	var dial func(context.Context) (net.Conn, error)
	r := analyzerRig(t, func(ctx context.Context) (net.Conn, error) { return dial(ctx) })
	issue := func(name string) tls.Certificate {
		return must(r.ca.IssueKeyPair(pki.Template{CommonName: name, Server: true, DNSNames: []string{name}}, r.now()))(t)
	}
	var requests *atomic.Int64
	dial, requests = r.server(t, issue("another.corp.example"), func(http.ResponseWriter, *http.Request) {})
	a := r.analyze(adminservice.NewAnalysis{})
	wantRows(t, a, "state pass", "resolve pass", "certificate fail", "configuration/0 fail", "configuration/1 fail", "sign-in todo", "tunnel fail", "location fail", "summary fail")
	if !strings.Contains(a.Rows[2].Evidence, "another.corp.example") {
		t.Errorf("another name: %+v", a.Rows[2])
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("a server that is not trusted got %d requests", n)
	}

	dial, _ = r.server(t, issue(serviceName), func(w http.ResponseWriter, q *http.Request) {
		if !strings.HasPrefix(q.Header.Get("Authorization"), "Bearer ") || len(q.TLS.PeerCertificates) != 1 {
			t.Errorf("%s without a token that is bound to a certificate", q.URL)
		}
		w.Header().Set(opencmg.HeaderCorrelationID, oneRequest)
		w.WriteHeader(http.StatusUnauthorized)
	})
	a = r.analyze(adminservice.NewAnalysis{})
	wantRows(t, a, "state pass", "resolve pass", "certificate fail", "configuration/0 fail", "configuration/1 fail", "sign-in fail", "tunnel fail", "location fail", "summary fail")
	if row := a.Rows[2]; !strings.Contains(row.Evidence, "the site published") {
		t.Errorf("another certificate than the published one: %+v", row)
	}
	if row := a.Rows[5]; row.HTTPStatus != 401 || row.Reason != "Unauthorized" || row.CorrelationID != oneRequest {
		t.Errorf("refused: %+v", row)
	}
}

func TestAnalysesAreBounded(t *testing.T) {
	var hold atomic.Pointer[chan struct{}]
	r := analyzerRig(t, func(ctx context.Context) (net.Conn, error) {
		if c := hold.Load(); c != nil {
			select {
			case <-*c:
			case <-ctx.Done():
			}
		}
		return nil, errors.New("planted")
	})
	const start = "Gateways/granitefalls/analyze"
	for what, in := range map[string]adminservice.NewAnalysis{
		"an unknown way":           {SignIn: "password"},
		"no certificate":           {SignIn: adminservice.AnalyzeCertificate},
		"no key":                   {SignIn: adminservice.AnalyzeCertificate, Certificate: "x"},
		"what is no pair":          {SignIn: adminservice.AnalyzeCertificate, Certificate: "x", Key: "planted-secret-key"},
		"no token":                 {SignIn: adminservice.AnalyzeEntraUser},
		"a token with a line end":  {SignIn: adminservice.AnalyzeEntraUser, EntraToken: "a\r\nb"},
		"a token that is not used": {EntraToken: "planted-secret-token"},
	} {
		err := r.c.Do(t.Context(), "POST", start, in, nil)
		if !errors.Is(err, opencmg.Invalid) || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := r.c.Do(t.Context(), "POST", "Gateways/nowhere/analyze", adminservice.NewAnalysis{}, nil); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("a gateway that is not there: %v", err)
	}
	// One at a time for each gateway.
	c := make(chan struct{})
	hold.Store(&c)
	first := do[adminservice.Analysis](r, "POST", start, adminservice.NewAnalysis{SignIn: adminservice.AnalyzeEntraUser, EntraToken: "planted-secret-token"})
	if err := r.c.Do(t.Context(), "POST", start, adminservice.NewAnalysis{}, nil); !errors.Is(err, opencmg.Conflict) || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("a second one: %v", err)
	}
	hold.Store(nil)
	close(c)
	for first.State == adminservice.AnalysisRunning {
		first = do[adminservice.Analysis](r, "GET", fmt.Sprintf("Analyses/%s?wait=20&after=%d", first.ID, len(first.Rows)), nil)
	}
	var last adminservice.Analysis
	for range 22 {
		last = r.analyze(adminservice.NewAnalysis{})
	}
	kept := do[adminservice.Page[adminservice.Analysis]](r, "GET", "Gateways/granitefalls/analyses", nil).Value
	if len(kept) != 20 || kept[0].ID != last.ID {
		t.Errorf("%d analyses are kept, want 20, the last one first", len(kept))
	}
	if err := r.c.Do(t.Context(), "GET", "Analyses/"+first.ID, nil, nil); !errors.Is(err, opencmg.NotFound) {
		t.Errorf("the oldest one: %v", err)
	}
	// Credentials are neither kept nor logged.
	f, err := os.Open(r.dbFile.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || strings.Contains(string(b), "planted-secret") || strings.Contains(r.log.String(), "planted-secret-token") {
		t.Errorf("a credential was kept or logged, or %v", err)
	}
}
