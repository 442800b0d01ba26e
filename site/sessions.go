package site

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/site/console"
	"github.com/opencmg/opencmg/sitedb"
)

// Sessions of the console. They are in the database, so that a site that starts
// again asks nobody to sign in anew, and they name an account, so that whoever
// loses the account or its role loses them at once.

// sessionRecord is a session; its ID is the SHA-256 of the cookie's value, which
// is random.
type sessionRecord struct {
	AccountID string    `json:"accountId"`
	Ends      time.Time `json:"ends"`
}

const (
	sessionLasts = 12 * time.Hour
	// maxSessions bounds the sessions of one account; the oldest make room.
	maxSessions = 50
)

// beginSession makes a session of an account and returns its cookie.
func (s *Server) beginSession(ctx context.Context, accountID string, ends time.Time) (string, error) {
	cookie := newSecret()
	now := s.cfg.Now()
	if limit := now.Add(sessionLasts); ends.IsZero() || ends.After(limit) {
		ends = limit
	}
	err := s.db.Change(ctx, "begin session", func(tx *sitedb.Tx) error {
		account, err := get[accountRecord](tx, kindAccount, accountID)
		if err != nil {
			return err
		}
		sessions, err := all[sessionRecord](tx, kindSession)
		if err != nil {
			return err
		}
		var own []*record[sessionRecord]
		for _, o := range sessions {
			switch {
			case !now.Before(o.Value.Ends):
				if err := tx.Delete(kindSession, o.ID, o.Version); err != nil {
					return err
				}
			case o.Value.AccountID == accountID:
				own = append(own, o)
			}
		}
		slices.SortFunc(own, func(a, b *record[sessionRecord]) int { return a.Created.Compare(b.Created) })
		for _, o := range own[:max(0, len(own)-maxSessions+1)] {
			if err := tx.Delete(kindSession, o.ID, o.Version); err != nil {
				return err
			}
		}
		rec := &record[sessionRecord]{ID: hashToken(cookie), Value: sessionRecord{AccountID: accountID, Ends: ends}}
		if err := rec.put(tx, kindSession); err != nil {
			return err
		}
		return tx.AddStatusMessage(sitedb.StatusMessage{
			Component: componentProvider, Severity: sitedb.SeverityInfo, MessageID: msgSignedIn, Account: account.Name, SubjectKind: kindAccount, SubjectID: account.ID,
			Text: account.Name + " signed in to the console",
		})
	})
	return cookie, err
}

// endSession forgets a session.
func (s *Server) endSession(ctx context.Context, cookie string) error {
	err := s.db.Change(ctx, "end session", func(tx *sitedb.Tx) error { return tx.Delete(kindSession, hashToken(cookie), 0) })
	if errors.Is(err, opencmg.NotFound) {
		return nil
	}
	return err
}

// session finds the session of a cookie, with the role that its account has now.
func (s *Server) session(ctx context.Context, cookie string) (*console.Session, error) {
	none := opencmg.Errorf(opencmg.Unauthorized, "sign in to the console")
	if cookie == "" {
		return nil, none
	}
	rec, err := read[sessionRecord](ctx, s.db, kindSession, hashToken(cookie))
	if errors.Is(err, opencmg.NotFound) || err == nil && !s.cfg.Now().Before(rec.Value.Ends) {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	account, err := read[accountRecord](ctx, s.db, kindAccount, rec.Value.AccountID)
	if errors.Is(err, opencmg.NotFound) {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	c := caller{account.Name, account.Value.Role}
	return &console.Session{
		Account: c.account, Role: c.role, Secret: cookie, Ends: rec.Value.Ends,
		Client: &adminservice.Client{URL: s.cfg.URL, HTTP: &http.Client{Transport: &asCaller{s, c}}},
	}, nil
}

// asCaller sends requests into this very service, as somebody who has signed in.
type asCaller struct {
	s *Server
	c caller
}

func (t *asCaller) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(context.WithValue(r.Context(), callerKey{}, t.c))
	in.RemoteAddr, in.RequestURI = "127.0.0.1:0", r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	return t.s.inProcess(in, r)
}

// signInLocal begins a session with a local token, counting failures as the
// administration service does.
func (s *Server) signInLocal(r *http.Request, token string) (string, error) {
	return s.guarded(r, func() (string, error) {
		accounts, err := readAll[accountRecord](r.Context(), s.db, kindAccount)
		if err != nil {
			return "", err
		}
		a := accountOfToken(accounts, token)
		if a == nil {
			return "", opencmg.Errorf(opencmg.Unauthorized, "the token belongs to no administrator of this site")
		}
		return s.beginSession(r.Context(), a.ID, time.Time{})
	})
}

// signInCertificate begins a session with the connection's client certificate,
// which ends no later than the certificate.
func (s *Server) signInCertificate(r *http.Request) (string, error) {
	return s.guarded(r, func() (string, error) {
		cert := peerCertificate(r)
		if cert == nil {
			return "", opencmg.Errorf(opencmg.Unauthorized, "the browser presented no client certificate: import it with its key, restart the browser, and choose it when asked")
		}
		accounts, err := readAll[accountRecord](r.Context(), s.db, kindAccount)
		if err != nil {
			return "", err
		}
		a, err := s.accountOfCertificate(accounts, cert)
		if err != nil {
			return "", err
		}
		return s.beginSession(r.Context(), a.ID, cert.NotAfter)
	})
}

// guarded lets an address try to sign in only so often.
func (s *Server) guarded(r *http.Request, signIn func() (string, error)) (string, error) {
	addr := remoteHost(r)
	if !s.guard.allow(addr, s.cfg.Now()) {
		return "", opencmg.Errorf(opencmg.Unavailable, "too many failed sign-ins from %s: wait a few seconds", addr)
	}
	cookie, err := signIn()
	if errors.Is(err, opencmg.Unauthorized) {
		s.guard.failed(addr, s.cfg.Now())
	}
	return cookie, err
}

// newConsole makes the console of this site.
func (s *Server) newConsole() (*console.Console, error) {
	return console.New(console.Config{
		Site: s.Code(), Version: s.cfg.Version, Log: s.log, Now: s.cfg.Now,
		SignInToken: s.signInLocal, SignInCertificate: s.signInCertificate,
		HasCertificate: func(r *http.Request) bool { return peerCertificate(r) != nil },
		Session:        s.session, SignOut: s.endSession,
		EntraChoices: s.entraApps,
		EntraBegin: func(r *http.Request, app, next string) (string, string, error) {
			return s.beginEntra(r.Context(), app, next)
		},
		EntraComplete: s.signInPerson,
		Changes:       s.changes,
	})
}
