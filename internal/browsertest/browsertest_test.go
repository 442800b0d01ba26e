package browsertest_test

import (
	"crypto/tls"
	"crypto/x509"
	"image/png"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencmg/opencmg/internal/browsertest"
	"github.com/opencmg/opencmg/pki"
)

func TestMain(m *testing.M) { os.Exit(browsertest.Main(m)) }

const head = `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>A page</title>
<style>:root { color-scheme: light dark } body { margin: 0 } @media (prefers-color-scheme: dark) { .light { display: none } }</style></head><body><main><h1>A page</h1>`

// pages are good and bad ones, by path.
var pages = map[string]string{
	"/good":      `<p>All is well.</p>`,
	"/console":   `<p>x</p><script nonce="n">console.error("planted error", 4711); </script>`,
	"/thrown":    `<p>x</p><script nonce="n">undefinedFunction()</script>`,
	"/missing":   `<img alt="x" src="/nothing.png">`,
	"/wide":      `<div id="wide" style="width: 500px; background: #ddd">wide</div>`,
	"/boxed":     `<div style="overflow-x: auto"><div style="width: 500px">in a box</div></div><span style="position: absolute; left: -9999px">for screen readers</span>`,
	"/stuck":     `<div style="overflow-x: clip"><p>x</p></div><div id="out" style="position: relative; left: -40px; width: 100px">out</div>`,
	"/pale":      `<p style="color: #ccc; background: #fff">You can hardly read this.</p>`,
	"/unnamed":   `<button class="light"></button>`,
	"/csp":       `<p>x</p><script>document.title = "never"</script>`,
	"/elsewhere": `<p>x</p><img alt="x" src="https://elsewhere.example/x.png">`,
	"/plain":     `<p>x</p><a id="to" href="http://plain.example/">to</a>`,
	"/form": `<form method="post" enctype="multipart/form-data" action="/form"><label>Name <input id="name" name="name" value="old"></label>
<label>Kind <select id="kind" name="kind"><option value="a">A</option><option value="b">B</option></select></label>
<label>File <input id="file" type="file" name="file"></label><button id="send">Send</button></form>
<p id="echo"></p><script nonce="n">document.getElementById("name").addEventListener("input", e => { document.getElementById("echo").textContent = e.target.value })</script>`,
	"/keys": `<a id="first" href="/good">first</a><button disabled>off</button><button id="b">press</button><label><input type="radio" name="r" id="r1">one</label><label><input type="radio" name="r" id="r2">two</label>
<label>Date <input type="date" id="d"><style nonce="n">#d:focus-within { outline: 2px solid }</style></label><details><summary id="sum">more</summary><a href="/good">hidden</a></details><div class="scroll" tabindex="0" role="region" aria-label="Frame" style="overflow: auto; height: 3rem"><p style="height: 9rem">long</p></div><select id="last"><option>x</option></select>`,
	"/left-out":    `<a href="/good">first</a><button id="out" tabindex="-1">press</button>`,
	"/ordered":     `<a href="/good">first</a><button id="two" tabindex="2">two</button><a href="/good">last</a>`,
	"/plain-focus": `<button id="p" style="outline: none">press</button>`,
	"/off-screen":  `<button>a</button><button id="o" style="position: fixed; left: -500px">press</button><button>z</button>`,
	"/covered":     `<button>a</button><button id="c">under</button><div id="lid" style="position: fixed; inset: 0; background: #ddd"></div>`,
	"/held":        `<button>a</button><button id="h">held</button><a href="/good">never</a><script nonce="n">document.getElementById("h").addEventListener("keydown", e => e.preventDefault())</script>`,
	"/lost":        `<button>a</button><button id="l">lost</button><button>b</button><button>c</button><script nonce="n">document.getElementById("l").addEventListener("focus", e => e.target.blur())</script>`,
	"/frame":       `<div id="f" style="overflow: auto; height: 3rem"><p style="height: 9rem">long</p></div>`,
	"/later":       `<p id="slow" hidden>It came.</p><p id="goes">It goes.</p><script nonce="n">fetch("/release").then(() => { document.getElementById("slow").hidden = false; document.getElementById("goes").remove() })</script>`,
	"/leave":       `<p>x</p><script nonce="n">fetch("/release").then(() => { location.href = "/good" })</script>`,
}

// A server has the pages, and what the test releases.
type server struct {
	*httptest.Server
	roots   *x509.CertPool
	release chan struct{}
}

func serve(t *testing.T) *server {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewAuthority("Test CA", now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.IssueKeyPair(pki.Template{CommonName: "site.example", Server: true, DNSNames: []string{"site.example"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{roots: x509.NewCertPool(), release: make(chan struct{})}
	s.roots.AddCert(ca.Certificate())
	mux := http.NewServeMux()
	page := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self'; style-src 'unsafe-inline'; script-src 'nonce-n'; img-src *")
		io.WriteString(w, head+body+"</main></body></html>")
	}
	for path, body := range pages {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { page(w, body) })
	}
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /release", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.release:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		if c, err := r.Cookie("__Host-seen"); err == nil {
			name += " again " + c.Value
		}
		http.SetCookie(w, &http.Cookie{Name: "__Host-seen", Value: "1", Path: "/", Secure: true})
		page(w, `<p id="who">`+name+" by "+r.Proto+`</p>`)
	})
	mux.HandleFunc("POST /form", func(w http.ResponseWriter, r *http.Request) {
		f, _, err := r.FormFile("file")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b, _ := io.ReadAll(f)
		page(w, `<p id="got">`+r.FormValue("name")+" "+r.FormValue("kind")+" "+string(b)+`</p>`)
	})
	s.Server = httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// open opens a page of the server, which is called site.example.
func (s *server) open(t *testing.T, path string) *browsertest.Page {
	t.Helper()
	p := browsertest.Open(t, s.options())
	if path != "" {
		p.Go("https://site.example" + path)
	}
	return p
}

func (s *server) options() browsertest.Options {
	return browsertest.Options{Hosts: map[string]string{"site.example:443": s.Listener.Addr().String()}, Roots: s.roots}
}

func TestGoodPage(t *testing.T) {
	s := serve(t)
	p := s.open(t, "/good")
	if p.Text("h1") != "A page" || p.URL() != "https://site.example/good" || !p.Has("p") || p.Has("table") {
		t.Errorf("%q at %s", p.Text("h1"), p.URL())
	}
	for _, dark := range []bool{false, true} {
		p.SetDark(dark)
		for _, width := range []int{360, 1920} {
			p.SetSize(width, 800)
			if got := browsertest.Eval[[]any](p, `() => [innerWidth, matchMedia("(prefers-color-scheme: dark)").matches]`); got[0] != float64(width) || got[1] != dark {
				t.Errorf("%v, want %d and %v", got, width, dark)
			}
			if o := p.Overflow(); len(o) > 0 {
				t.Errorf("%d: %q", width, o)
			}
		}
		if f := p.Axe(); len(f) > 0 {
			t.Errorf("dark %v: %v", dark, f)
		}
	}
	file := filepath.Join(t.TempDir(), "pictures", "good.png")
	p.Screenshot(file, 360, 640, true)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil || picture.Bounds().Dx() != 360 || picture.Bounds().Dy() != 640 {
		t.Fatalf("%v %v", picture.Bounds(), err)
	}
	if r, g, b, _ := picture.At(350, 630).RGBA(); r+g+b > 3*0x4000 {
		t.Errorf("the ground of a dark page is %x %x %x", r, g, b)
	}
}

// Each thing that no page may do is found, and is told apart.
func TestProblems(t *testing.T) {
	s := serve(t)
	for _, tt := range []struct{ path, kind, says string }{
		{"/console", browsertest.KindConsole, "planted error 4711"},
		{"/thrown", browsertest.KindConsole, "undefinedFunction"},
		{"/missing", browsertest.KindConsole, "404"},
		{"/csp", browsertest.KindCSP, "inline script"},
		{"/elsewhere", browsertest.KindHost, "elsewhere.example:443"},
	} {
		t.Run(tt.path[1:], func(t *testing.T) {
			p := s.open(t, tt.path)
			if got := p.AwaitProblem(tt.kind); !strings.Contains(got.Text, tt.says) {
				t.Errorf("%s, want %s", got, tt.says)
			}
			p.Allow("net::ERR_TUNNEL_CONNECTION_FAILED") // what else the browser says about it
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		p := s.open(t, "/plain")
		p.Click("#to")
		if got := p.AwaitProblem(browsertest.KindHost); !strings.Contains(got.Text, "plain.example:80") {
			t.Errorf("%s", got)
		}
		p.Allow("plain.example:80")
		p.Allow("status of 403")
	})
	t.Run("fails the test", func(t *testing.T) {
		own := &recorder{TB: t}
		p := browsertest.Open(own, s.options())
		p.Go("https://site.example/console")
		p.Go("https://site.example/good")
		own.finish()
		if len(own.errors) != 1 || !strings.Contains(own.errors[0], "planted error") {
			t.Errorf("%q", own.errors)
		}
	})
}

// A recorder is a test within a test, which may fail.
type recorder struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, strings.TrimSpace(strings.ReplaceAll(format, "%s", "")+" "+sprint(args)))
}

func (r *recorder) finish() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

func sprint(args []any) string {
	var b strings.Builder
	for _, a := range args {
		if s, ok := a.(interface{ String() string }); ok {
			b.WriteString(s.String())
		}
	}
	return b.String()
}

func TestOverflow(t *testing.T) {
	s := serve(t)
	p := s.open(t, "")
	for _, tt := range []struct {
		path  string
		width int
		says  string // empty: all fits
	}{
		{"/wide", 360, "div#wide is from 0 to 500"}, {"/wide", 360, "the page is 500 px wide"}, {"/wide", 1920, ""},
		{"/boxed", 360, ""}, {"/stuck", 360, "div#out is from -40 to 60"},
	} {
		p.SetSize(tt.width, 800)
		p.Go("https://site.example" + tt.path)
		got := strings.Join(p.Overflow(), "\n")
		if tt.says == "" && got != "" || !strings.Contains(got, tt.says) {
			t.Errorf("%s at %d: %q, want %q", tt.path, tt.width, got, tt.says)
		}
	}
}

func TestAxe(t *testing.T) {
	s := serve(t)
	p := s.open(t, "/pale")
	if f := p.Axe(); len(f) != 1 || f[0].Rule != "color-contrast" || f[0].Impact != "serious" {
		t.Errorf("%v", f)
	}
	p.Go("https://site.example/unnamed")
	if f := p.Axe(); len(f) != 1 || f[0].Rule != "button-name" || f[0].Impact != "critical" {
		t.Errorf("%v", f)
	}
	p.SetDark(true) // where it is not shown
	if f := p.Axe(); len(f) > 0 {
		t.Errorf("%v", f)
	}
}

func TestKeyboard(t *testing.T) {
	s := serve(t)
	p := s.open(t, "")
	for path, says := range map[string]string{
		"/keys": "", "/good": "", "/left-out": "button#out \"press\" is left out", "/ordered": "button#two \"two\" has a place of its own",
		"/plain-focus": "button#p \"press\" looks the same", "/off-screen": "button#o \"press\" has the focus and is off the screen", "/covered": "has the focus under div#lid",
		"/held": "a \"never\" gets the focus 0 times by Tab", "/lost": "button#l \"lost\" gets the focus 0 times by Tab", "/frame": "div#f \"long\" scrolls, and is no named part",
	} {
		p.Go("https://site.example" + path)
		p.KeyboardFromTop()
		got := strings.Join(p.Keyboard("body"), "\n")
		if says == "" && got != "" || !strings.Contains(got, says) {
			t.Errorf("%s: %q, want %q", path, got, says)
		}
	}
	p.Go("https://site.example/keys")
	p.TabTo("#last")
	if got := p.Focused(); got != `select#last "x"` {
		t.Errorf("%s has the focus", got)
	}
	p.KeyboardFromTop()
	p.TabTo("#first")
	p.PressAway(browsertest.Enter)
	p.WaitText("p", "All is well.")
}

func TestForm(t *testing.T) {
	s := serve(t)
	p := s.open(t, "/form")
	p.Fill("#name", "Ann")
	p.WaitText("#echo", "Ann")
	p.Fill("#name", "")
	p.Fill("#name", "Bob é")
	p.Choose("#kind", "b")
	file := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Upload("#file", file)
	if p.Value("#name") != "Bob é" || p.Value("#kind") != "b" {
		t.Errorf("%q %q", p.Value("#name"), p.Value("#kind"))
	}
	p.Follow("#send")
	if got := p.Text("#got"); got != "Bob é b content" {
		t.Errorf("%q", got)
	}
	if u, err := url.Parse(p.URL()); err != nil || u.Path != "/form" {
		t.Errorf("%v %v", u, err)
	}
}

// Waiting ends with the event, also when the document is another one by then.
func TestWaiting(t *testing.T) {
	s := serve(t)
	p := s.open(t, "/later")
	if p.Has("#slow") || !p.Has("#goes") {
		t.Error("it has happened before it was released")
	}
	s.release <- struct{}{}
	p.WaitFor("#slow")
	p.WaitGone("#goes")
	p.Go("https://site.example/leave")
	s.release <- struct{}{}
	p.WaitText("p", "All is well.")
}

func TestSignInCertificate(t *testing.T) {
	s := serve(t)
	p := s.open(t, "/who")
	if got := p.Text("#who"); got != "nobody by HTTP/2.0" {
		t.Errorf("%q", got)
	}
	p.Reload()
	if got := p.Text("#who"); got != "nobody again 1 by HTTP/2.0" {
		t.Errorf("%q", got)
	}
	// Another page has other cookies, and another certificate.
	ca, err := pki.NewAuthority("Administrators", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.IssueKeyPair(pki.Template{CommonName: "ann", Client: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o := s.options()
	o.ClientCertificate = &pair
	q := browsertest.Open(t, o)
	q.Go("https://site.example/who")
	if got := q.Text("#who"); got != "ann by HTTP/2.0" {
		t.Errorf("%q", got)
	}
	// A server of another CA is not spoken to.
	o.Roots = x509.NewCertPool()
	w := &recorder{TB: t}
	bad := browsertest.Open(w, o)
	if err := browsertest.Try(bad, "https://site.example/who"); err == nil {
		t.Error("the page was opened")
	}
	if got := bad.AwaitProblem(browsertest.KindTLS); !strings.Contains(got.Text, "certificate") {
		t.Errorf("%s", got)
	}
	bad.Take()
	w.finish()
}
