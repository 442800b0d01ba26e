// Package console is the web console of a site: pages below /console/ to set a
// cloud management gateway up, to watch it, and to understand what happens.
//
// The console is a client of the administration service and of nothing else.
// Every page is rendered here from what that service answers to the person who
// looks (views in their files, templates in html/), and every button posts a
// form whose action asks the same service. So roles, checks and audit are the
// service's, and whatever a page can do, a script can do too.
//
// A page stays fresh by itself: its parts marked with [Page.Live] are rendered
// anew whenever something changed, and those that differ are sent to the browser
// (live.go). Scripts, styles and the chart library come with the program; no
// page asks another host for anything.
package console

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/internal/web"
)

// Path is where the console is served.
const Path = "/console/"

//go:embed html static
var files embed.FS

// A Session is a person who signed in.
type Session struct {
	Account string // name
	Role    adminservice.Role
	// Secret is the session's own, from which the proof that a form came from
	// one of its pages is made.
	Secret string
	// Client asks the administration service as this person.
	Client *adminservice.Client
	Ends   time.Time
}

// An EntraChoice is a server application by which people can sign in.
type EntraChoice struct {
	ID     string // of the site's record of the application
	Tenant string // name
	// Redirect is the redirect URI that the app's registration must have. Entra
	// tells only the person when it has not.
	Redirect string
}

// Config says what the console needs of its site. All but the Entra functions
// must be set.
type Config struct {
	Site    opencmg.SiteCode
	Version string // of the program
	Log     *slog.Logger
	Now     func() time.Time
	// SignInToken begins a session for the account of a local token, and
	// SignInCertificate for that of the connection's client certificate. Each
	// returns the value of the session's cookie.
	SignInToken       func(r *http.Request, token string) (cookie string, err error)
	SignInCertificate func(r *http.Request) (cookie string, err error)
	// HasCertificate reports whether the connection came with a client
	// certificate.
	HasCertificate func(r *http.Request) bool
	// Session finds the session of a cookie; opencmg.Unauthorized when there is
	// none, or none any more. SignOut ends it.
	Session func(ctx context.Context, cookie string) (*Session, error)
	SignOut func(ctx context.Context, cookie string) error
	// EntraChoices, EntraBegin and EntraComplete sign in by OpenID Connect; nil
	// where nobody can. What EntraBegin returns as pending comes back to
	// EntraComplete with the query of the redirect; it keeps next, the address of
	// the page that the person wanted, which EntraComplete returns, also for one
	// who was refused.
	EntraChoices  func(ctx context.Context) ([]EntraChoice, error)
	EntraBegin    func(r *http.Request, app, next string) (target, pending string, err error)
	EntraComplete func(r *http.Request, pending string, query url.Values) (cookie, next string, err error)
	// Changes returns a channel that gets a value soon after anything changed
	// that a page may show, until ctx ends.
	Changes func(ctx context.Context) <-chan struct{}
}

// A Console serves the pages.
type Console struct {
	cfg       Config
	templates *templates
	assets    map[string]asset // by name in static
	mux       *http.ServeMux
	views     *http.ServeMux // the pages alone, for live streams
	streams   chan struct{}  // one taken for each live stream
}

// New makes the console.
func New(cfg Config) (*Console, error) {
	c := &Console{cfg: cfg, mux: http.NewServeMux(), views: http.NewServeMux(), streams: make(chan struct{}, maxStreams)}
	var err error
	if c.assets, err = readAssets(); err != nil {
		return nil, err
	}
	if c.templates, err = readTemplates(c); err != nil {
		return nil, err
	}
	for _, v := range c.allViews() {
		h := c.signedIn(func(w http.ResponseWriter, v2 *Visit) error { return c.serveView(w, v2, v) })
		c.mux.Handle("GET "+Path+v.pattern, h)
		c.views.Handle("GET "+Path+v.pattern, h)
	}
	for _, a := range c.allActions() {
		c.mux.Handle("POST "+Path+a.pattern, c.signedIn(func(w http.ResponseWriter, v *Visit) error { return c.serveAction(w, v, a) }))
	}
	for _, a := range c.allAnswers() {
		c.mux.Handle(a.method+" "+Path+a.pattern, c.signedIn(a.serve))
	}
	c.mux.Handle("GET "+Path+"live", c.signedIn(c.serveLive))
	c.mux.HandleFunc("GET "+Path+"static/{version}/{name...}", c.serveAsset)
	c.signInRoutes()
	c.mux.Handle(Path, c.signedIn(func(w http.ResponseWriter, v *Visit) error {
		return opencmg.Errorf(opencmg.NotFound, "there is no page %s in this console", v.Request.URL.Path)
	}))
	return c, nil
}

// ServeHTTP serves everything below [Path].
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	c.mux.ServeHTTP(w, r)
}

// A Visit is one request of somebody who is signed in.
type Visit struct {
	*Session
	Request *http.Request
	// Problem is why the form that was posted was not done, shown above the
	// page.
	Problem error
	live    *stream // that renders the page, instead of a browser that loads it
}

// Context ends with the request.
func (v *Visit) Context() context.Context { return v.Request.Context() }

// ID is the {id} of the page's path.
func (v *Visit) ID() string { return v.Request.PathValue("id") }

// Query is a value of the page's query.
func (v *Visit) Query(name string) string { return v.Request.URL.Query().Get(name) }

// Form is a value of the form that was posted, without space around it; empty
// on a page that was just opened.
func (v *Visit) Form(name string) string {
	return strings.TrimSpace(v.Request.PostFormValue(name))
}

// Checked reports whether a box of the posted form is ticked.
func (v *Visit) Checked(name string) bool { return v.Request.PostFormValue(name) != "" }

// May reports whether the person's role is one of those that may do something.
func (v *Visit) May(roles []adminservice.Role) bool {
	for _, r := range roles {
		if r == v.Role {
			return true
		}
	}
	return false
}

// Do asks the administration service as the person who looks; see
// [adminservice.Client.Do].
func (v *Visit) Do(method, path string, in, out any) error {
	return v.Client.Do(v.Context(), method, path, in, out)
}

// list asks for a collection, such as "Gateways" or "Alerts?open=true".
func list[T any](v *Visit, path string) ([]T, error) {
	p, err := adminservice.Get[adminservice.Page[T]](v.Context(), v.Client, path)
	return p.Value, err
}

// get asks for one object.
func get[T any](v *Visit, path string) (T, error) {
	return adminservice.Get[T](v.Context(), v.Client, path)
}

// A view is a page: what it loads and which template shows it.
type view struct {
	pattern  string // below Path, as of http.ServeMux
	node     string // of the navigation, by its href
	title    string
	template string
	load     func(*Visit) (any, error)
	// freshAt is the address, below Path, of the page with the same live parts,
	// where this one has no address of its own.
	freshAt string
}

// An action is what a form does. do returns the page to go to, with a sentence
// for it in said. When it fails, the view with the pattern in page is shown with
// what was typed and why it failed, beside the field of the form that the service
// calls so, or by its name in fields.
type action struct {
	pattern string
	page    string
	do      func(*Visit) (next, said string, err error)
	fields  fieldNames
}

// An answer is anything else: downloads, and pieces that scripts ask for.
type rawAnswer struct {
	method, pattern string
	serve           func(http.ResponseWriter, *Visit) error
}

// maxForm bounds what a form may carry, in bytes: a PFX with its chain and some
// certificates.
const maxForm = 4 << 20

// signedIn serves those who signed in, and sends the others to the page where
// one does. A form must prove that it came from a page of the session.
func (c *Console) signedIn(serve func(http.ResponseWriter, *Visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &Visit{Request: r, live: streamOf(r.Context())}
		if v.live != nil {
			v.Session = v.live.session
			if err := serve(w, v); err != nil {
				v.live.err = err
			}
			return
		}
		cookie := sessionCookieOf(r)
		s, err := c.cfg.Session(r.Context(), cookie)
		if errors.Is(err, opencmg.Unauthorized) {
			c.askToSignIn(w, r)
			return
		}
		if err != nil {
			c.fail(w, v, err)
			return
		}
		v.Session = s
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := parseForm(r); err != nil {
				c.fail(w, v, err)
				return
			}
			if !equal(r.PostFormValue("proof"), s.proof()) {
				c.fail(w, v, opencmg.Errorf(opencmg.Forbidden, "the form did not come from a page of this session: open the page again and repeat"))
				return
			}
		}
		if err := serve(w, v); err != nil {
			c.fail(w, v, err)
		}
	})
}

func parseForm(r *http.Request) error {
	err := r.ParseMultipartForm(maxForm)
	if errors.Is(err, http.ErrNotMultipart) {
		err = r.ParseForm()
	}
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return opencmg.Errorf(opencmg.TooLarge, "the form is larger than %d bytes", maxForm)
	}
	return opencmg.Errorf(opencmg.Invalid, "the form can not be read: %v", err)
}

// proof shows that a form is from a page of the session.
func (s *Session) proof() string {
	sum := sha256.Sum256([]byte("form of " + s.Secret))
	return hex.EncodeToString(sum[:])
}

// serveView loads and renders a page.
func (c *Console) serveView(w http.ResponseWriter, v *Visit, of view) error {
	data, err := of.load(v)
	if err != nil {
		return err
	}
	return c.render(w, v, of, data, http.StatusOK)
}

// serveAction does what a form asks for.
func (c *Console) serveAction(w http.ResponseWriter, v *Visit, a action) error {
	next, said, err := a.do(v)
	if err == nil {
		setNotice(w, said)
		if !strings.HasPrefix(next, Path) {
			next = Path + next
		}
		http.Redirect(w, v.Request, next, http.StatusSeeOther)
		return nil
	}
	return c.serveAgain(w, v, a.page, inForm(err, a.fields))
}

// fail answers with a page that says what went wrong.
func (c *Console) fail(w http.ResponseWriter, v *Visit, err error) {
	c.log(v.Request, err)
	status := web.Status(kindOf(err))
	if strings.HasPrefix(v.Request.Header.Get("Accept"), "application/json") {
		http.Error(w, problemOf(err).Text, status)
		return
	}
	if p, ok := errors.AsType[*adminservice.ProblemError](err); ok && v.Session != nil && errors.Is(p, opencmg.Forbidden) {
		if c.refuse(w, v, problemOf(err).Text) == nil {
			return
		}
	}
	if rerr := c.render(w, v, view{template: "problem", title: http.StatusText(status)}, problemOf(err), status); rerr != nil {
		http.Error(w, http.StatusText(status), status)
	}
}

// kindOf makes an error of the administration service one of our own.
func kindOf(err error) error {
	if p, ok := errors.AsType[*adminservice.ProblemError](err); ok {
		if k, ok := p.Unwrap().(opencmg.Kind); ok {
			return opencmg.Errorf(k, "%s", p.Error())
		}
	}
	return err
}

func (c *Console) log(r *http.Request, err error) {
	level := slog.LevelInfo
	if web.Status(kindOf(err)) >= 500 {
		level = slog.LevelError
	}
	c.cfg.Log.Log(r.Context(), level, "a page of the console could not be served", "component", "SMSProv", "method", r.Method, "path", r.URL.Path,
		"correlation", r.Header.Get(opencmg.HeaderCorrelationID), "err", err)
}

// An asset is a file of static. The version in its address is that of its
// content, so that browsers may keep it for good.
type asset struct {
	content []byte
	version string
	mime    string
}

var mimes = map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

func readAssets() (map[string]asset, error) {
	all := map[string]asset{}
	err := fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || mimes[path.Ext(name)] == "" {
			return err
		}
		b, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		all[strings.TrimPrefix(name, "static/")] = asset{b, hex.EncodeToString(sum[:8]), mimes[path.Ext(name)]}
		return nil
	})
	return all, err
}

// assetPath is where browsers find a file of static.
func (c *Console) assetPath(name string) (string, error) {
	a, ok := c.assets[name]
	if !ok {
		return "", fmt.Errorf("there is no file static/%s", name)
	}
	return Path + "static/" + a.version + "/" + name, nil
}

func (c *Console) serveAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := c.assets[r.PathValue("name")]
	if !ok || a.version != r.PathValue("version") {
		http.Error(w, "there is no such file in this version of the console", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", a.mime)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(a.content)
}
