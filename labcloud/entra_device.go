package labcloud

import (
	"html/template"
	"net/http"
	"slices"
	"strings"
)

// The page that a sign-in by device code sends people to (RFC 8628 3.3): they
// type the code that a program shows, and sign in or decline. Nothing is kept
// between its calls.

// devicePage is what the page shows.
type devicePage struct {
	Code, Hint, Problem string
	Users               []string
	Done                *deviceDone // the code was answered
}

// A deviceDone is the answer that a person gave.
type deviceDone struct {
	App, Tenant, User string
	Declined          bool
}

// signInDevice shows the page (GET) and takes its answer (POST). What is wrong
// stands on the page again, with what was typed; a password is never sent back.
func (s *Server) signInDevice(w http.ResponseWriter, r *http.Request) {
	page := devicePage{}
	s.world.Lock()
	defer s.world.Unlock()
	for tenant := range s.tenants {
		page.Users = append(page.Users, s.signInUsers(tenant)...)
	}
	slices.Sort(page.Users)
	status := http.StatusOK
	if r.Method == http.MethodPost {
		if err := r.ParseForm(); err != nil {
			s.entraPage(w, aadsts(http.StatusBadRequest, "invalid_request", 9002313, "Invalid request. Request is malformed or invalid."))
			return
		}
		page.Code, page.Hint = r.PostForm.Get("user_code"), r.PostForm.Get("login")
		status, page.Problem, page.Done = s.answerDevice(page.Code, page.Hint, r.PostForm.Get("passwd"), r.PostForm.Get("decline") != "")
		if page.Problem == "" {
			if err := s.save(); err != nil {
				s.entraPage(w, aadsts(http.StatusInternalServerError, "server_error", 90099, "%v", err))
				return
			}
		}
	}
	pageHead(w, status)
	deviceTemplate.Execute(w, page)
}

// answerDevice signs a person in at the device whose code was typed, or
// declines, or says what is wrong.
func (s *Server) answerDevice(typed, login, password string, decline bool) (status int, problem string, done *deviceDone) {
	// People type it as they read it.
	typed = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(typed))
	d := s.deviceCodeOf(typed)
	switch {
	case typed == "":
		return http.StatusBadRequest, "Type the code that is shown where you want to sign in.", nil
	case d == nil:
		return http.StatusBadRequest, "This code is not known. Compare it with the one that is shown, or ask for a new one there.", nil
	case d.Used || d.UserID != "" || d.Denied:
		return http.StatusBadRequest, "This code was answered already, and is good once. Ask for a new one where it is shown.", nil
	case s.cfg.Now().After(d.Expires):
		return http.StatusBadRequest, "This code has expired. Ask for a new one where it is shown.", nil
	}
	done = &deviceDone{App: "Microsoft Azure CLI", Tenant: s.tenants[d.Tenant].Name, Declined: decline}
	if d.AppID != cliAppID {
		app, fail := s.application(d.Tenant, d.AppID)
		if fail != nil {
			return fail.status, s.describe(fail), nil
		}
		done.App = text(app.Body, "displayName")
	}
	if decline {
		d.Denied = true
		return http.StatusOK, "", done
	}
	u, problem := s.signedIn(d.Tenant, login, password)
	if u == nil {
		return http.StatusUnauthorized, problem, nil
	}
	d.UserID, done.User = u.ID, text(u.Body, "userPrincipalName")
	return http.StatusOK, "", done
}

// deviceCodeOf is the sign-in that shows a user code, or nil.
func (s *Server) deviceCodeOf(userCode string) *deviceCode {
	for _, d := range s.st.DeviceCodes {
		if same(d.UserCode, userCode) {
			return d
		}
	}
	return nil
}

var deviceTemplate = template.Must(template.New("device").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in by a code (lab)</title>` + pageStyle + `</head>
<body><main>
{{with .Done}}{{if .Declined}}<h1>Declined</h1>
<p id="done">Nobody is signed in to <b>{{.App}}</b>. You can close this page.</p>
{{else}}<h1>You are signed in</h1>
<p id="done"><b>{{.User}}</b> is signed in to <b>{{.App}}</b> in tenant <b>{{.Tenant}}</b>, which goes on by itself. You can close this page.</p>
{{end}}{{else}}<h1>Sign in by a code</h1>
<p>The lab's stand-in for Microsoft Entra ID. Type the code only if you asked for it yourself a moment ago: whoever shows it acts in your name then.</p>
{{with .Problem}}<p role="alert" id="problem">{{.}}</p>{{end}}
<form method="post">
<label for="user_code">Code</label>
<input id="user_code" name="user_code" value="{{.Code}}" maxlength="32" autocomplete="off" autocapitalize="characters" spellcheck="false" autofocus>
<label for="login">User</label>
<select id="login" name="login">{{$hint := .Hint}}{{range .Users}}<option{{if eq . $hint}} selected{{end}}>{{.}}</option>{{end}}</select>
<label for="passwd">Password</label>
<input id="passwd" name="passwd" type="password" autocomplete="off">
<button id="sign-in">Sign in</button>
<button id="decline" name="decline" value="1">Decline</button>
</form>
{{end}}</main></body></html>
`))
