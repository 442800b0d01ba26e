package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/opencmg/opencmg"
)

const (
	sessionCookie = "__Host-opencmg-session"
	pendingCookie = "__Host-opencmg-sign-in"
)

func (c *Console) signInRoutes() {
	c.mux.HandleFunc("GET "+Path+"sign-in", func(w http.ResponseWriter, r *http.Request) { c.showSignIn(w, r, r.FormValue("next"), nil) })
	c.mux.HandleFunc("POST "+Path+"sign-in/token", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		token := strings.TrimSpace(r.PostFormValue("token"))
		if token == "" {
			c.showSignIn(w, r, r.PostFormValue("next"), opencmg.Errorf(opencmg.Invalid, "paste the local token of an administrator"))
			return
		}
		cookie, err := c.cfg.SignInToken(r, token)
		c.begin(w, r, cookie, r.PostFormValue("next"), err)
	})
	c.mux.HandleFunc("POST "+Path+"sign-in/certificate", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		cookie, err := c.cfg.SignInCertificate(r)
		c.begin(w, r, cookie, r.PostFormValue("next"), err)
	})
	c.mux.HandleFunc("GET "+Path+"sign-in/entra", func(w http.ResponseWriter, r *http.Request) {
		next := r.URL.Query().Get("next")
		if c.cfg.EntraBegin == nil {
			c.showSignIn(w, r, next, opencmg.Errorf(opencmg.NotFound, "nobody can sign in by Entra here yet"))
			return
		}
		target, pending, err := c.cfg.EntraBegin(r, r.URL.Query().Get("app"), localPage(next))
		if err != nil {
			c.showSignIn(w, r, next, err)
			return
		}
		// Lax, because the browser comes back from another site.
		http.SetCookie(w, &http.Cookie{Name: pendingCookie, Value: pending, Path: "/", MaxAge: 600, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, target, http.StatusSeeOther)
	})
	c.mux.HandleFunc("GET "+Path+"sign-in/entra/callback", func(w http.ResponseWriter, r *http.Request) {
		k, err := r.Cookie(pendingCookie)
		if err != nil || c.cfg.EntraComplete == nil {
			c.showSignIn(w, r, "", opencmg.Errorf(opencmg.Invalid, "this sign-in was not begun in this browser, or too long ago: begin again"))
			return
		}
		forget(w, pendingCookie)
		cookie, next, err := c.cfg.EntraComplete(r, k.Value, r.URL.Query())
		c.begin(w, r, cookie, next, err)
	})
	c.mux.Handle("POST "+Path+"sign-out", c.signedIn(func(w http.ResponseWriter, v *Visit) error {
		if err := c.cfg.SignOut(v.Context(), sessionCookieOf(v.Request)); err != nil {
			return err
		}
		forget(w, sessionCookie)
		http.Redirect(w, v.Request, Path+"sign-in", http.StatusSeeOther)
		return nil
	}))
}

func sessionCookieOf(r *http.Request) string {
	k, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return k.Value
}

func forget(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true})
}

// begin gives the browser its session, and goes where the person wanted to.
func (c *Console) begin(w http.ResponseWriter, r *http.Request, cookie, next string, err error) {
	if err != nil {
		c.log(r, err)
		c.showSignIn(w, r, next, err)
		return
	}
	// Lax and not Strict: a link in a mail about an alert leads to its page. What
	// changes anything needs the proof of a page, too.
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: cookie, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, localPage(next), http.StatusSeeOther)
}

// localPage is next if that is a page of the console, and the start page
// otherwise: a link must not lead anybody elsewhere by way of the sign-in.
func localPage(next string) string {
	if u, err := url.Parse(next); err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(next, Path) || strings.Contains(next, `\`) {
		return Path
	}
	return next
}

// askToSignIn leads to the page where one signs in, and back from there.
func (c *Console) askToSignIn(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		http.Error(w, "sign in to the console first", http.StatusUnauthorized)
		return
	}
	if strings.HasPrefix(r.URL.Path, Path+"live") {
		w.WriteHeader(http.StatusNoContent) // which tells an event source not to come again
		return
	}
	target := Path + "sign-in"
	if r.URL.Path != Path {
		target += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// signInPage is what the page to sign in shows.
type signInPage struct {
	Next        string
	Certificate bool // came with the connection
	Entra       []EntraChoice
}

func (c *Console) showSignIn(w http.ResponseWriter, r *http.Request, next string, problem error) {
	d := signInPage{Next: next, Certificate: c.cfg.HasCertificate(r)}
	if c.cfg.EntraChoices != nil {
		choices, err := c.cfg.EntraChoices(r.Context())
		if err != nil {
			c.log(r, err)
		}
		d.Entra = choices
	}
	status := http.StatusOK
	if problem != nil {
		status = http.StatusUnauthorized
	}
	v := &Visit{Request: r, Problem: problem}
	if err := c.render(w, v, view{template: "sign-in", title: "Sign in"}, d, status); err != nil {
		c.log(r, err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}
