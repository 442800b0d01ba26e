package site_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// A visitor uses the console without a browser: real TLS, cookies, forms.
type visitor struct {
	t    testing.TB
	http *http.Client
	url  string // of the site
	// proof is that of the last page, without which no form counts.
	proof string
}

// visit opens the console without signing in. The certificates, if any, are
// presented.
func (r *rig) visit(certs ...tls.Certificate) *visitor {
	r.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(r.s.SiteCA())
	jar := must(cookiejar.New(nil))(r.t)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs, Time: r.now}, ForceAttemptHTTP2: true}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &visitor{t: r.t, url: r.c.URL, http: &http.Client{Transport: tr, Jar: jar}}
}

// console signs in as the account of a token.
func (r *rig) console(token adminservice.Secret) *visitor {
	r.t.Helper()
	v := r.visit()
	if status, page := v.post("sign-in/token", url.Values{"token": {string(token)}}); status != http.StatusOK || v.proof == "" {
		r.t.Fatalf("sign in: %d\n%s", status, page)
	}
	return v
}

// analyst signs in as a Read-only Analyst.
func (r *rig) analyst() *visitor {
	r.t.Helper()
	return r.console(adminservice.Secret(do[adminservice.Account](r, "POST", "Accounts", adminservice.Account{Name: "analyst", Role: adminservice.ReadOnlyAnalyst, LocalToken: true}).Token))
}

var proofPattern = regexp.MustCompile(`name="proof" value="([0-9a-f]+)"`)

// get loads a page below /console/, through redirects.
func (v *visitor) get(path string) (status int, page string) {
	v.t.Helper()
	res, err := v.http.Get(v.url + "/console/" + path)
	return v.answer(res, err)
}

// see loads a page and fails the test unless it holds every text.
func (v *visitor) see(path string, texts ...string) string {
	v.t.Helper()
	status, page := v.get(path)
	if status != http.StatusOK {
		v.t.Fatalf("%s: %d\n%s", path, status, page)
	}
	for _, text := range texts {
		if !strings.Contains(page, text) {
			v.t.Errorf("%s does not say %q:\n%s", path, text, page)
		}
	}
	return page
}

// post sends a form with the proof of the last page, and follows to the next.
func (v *visitor) post(path string, form url.Values) (status int, page string) {
	v.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	if v.proof != "" && !form.Has("proof") {
		form.Set("proof", v.proof)
	}
	res, err := v.http.PostForm(v.url+"/console/"+path, form)
	return v.answer(res, err)
}

func (v *visitor) answer(res *http.Response, err error) (int, string) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	if m := proofPattern.FindSubmatch(b); m != nil {
		v.proof = string(m[1])
	}
	return res.StatusCode, string(b)
}

// An event is what a live stream said.
type event struct {
	name  string
	parts map[string]string
	text  string
}

// watch opens the live stream of a page and returns what comes, until the test
// ends.
func (v *visitor) watch(page string) <-chan event {
	v.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v.t.Cleanup(cancel)
	req := must(http.NewRequestWithContext(ctx, "GET", v.url+"/console/live?page="+url.QueryEscape("/console/"+page), nil))(v.t)
	res, err := v.http.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	if ct := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || ct != "text/event-stream" {
		v.t.Fatalf("live stream of %s: %d %s", page, res.StatusCode, ct)
	}
	events := make(chan event, 100)
	go func() {
		defer close(events)
		defer res.Body.Close()
		var e event
		for s := bufio.NewReader(res.Body); ; {
			line, err := s.ReadString('\n')
			if err != nil {
				return
			}
			field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch field {
			case "event":
				e.name = value
			case "data":
				json.Unmarshal([]byte(value), &e.parts)
				json.Unmarshal([]byte(value), &e.text)
			case "":
				if e.name != "" {
					events <- e
				}
				e = event{}
			}
		}
	}()
	return events
}

// until waits for an event whose part holds the text.
func (v *visitor) until(events <-chan event, part, text string) {
	v.t.Helper()
	last := ""
	patience := time.After(30 * time.Second) // the stream renders at least every 15
	for {
		select {
		case e, ok := <-events:
			if !ok {
				v.t.Fatalf("the stream ended before part %s said %q; it said\n%s", part, text, last)
			}
			if s, ok := e.parts[part]; ok {
				last = s
			}
			if strings.Contains(e.parts[part], text) {
				return
			}
		case <-patience:
			v.t.Fatalf("part %s never said %q; it said\n%s", part, text, last)
		}
	}
}
