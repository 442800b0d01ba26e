package site

import (
	"errors"
	"net/http"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

const kindClient = "client" // in status messages

// blockClient is POST Clients/{id}/block. The client is refused by everybody who
// could let it in: management points by its approval, gateways by its tokens and
// its certificate, which are published with the same change.
func (s *Server) blockClient(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOf(r)
	if err != nil {
		return err
	}
	var in adminservice.BlockClient
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if !label(in.Reason, maxDescription) {
		return opencmg.Errorf(opencmg.Invalid, "reason: must be at most %d characters without control characters", maxDescription).About("reason")
	}
	err = s.db.Change(r.Context(), "block client", func(tx *sitedb.Tx) error {
		before, err := tx.BlockClient(id, callerOf(r.Context()).account, in.Reason)
		if err != nil {
			return noClient(err, id)
		}
		thumbprint := certificateOf(&before)
		switch _, err := get[blockedRecord](tx, kindBlocked, thumbprint); {
		case errors.Is(err, opencmg.NotFound):
			rec := &record[blockedRecord]{ID: thumbprint, Name: thumbprint, Value: blockedRecord{Reason: in.Reason, Client: id}}
			if err := rec.put(tx, kindBlocked); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		if !before.Blocked.IsZero() {
			return nil // no news
		}
		return s.audit(r.Context(), tx, msgChanged, kindClient, string(id), "blocked client %s (%s), its tokens and its certificate%s", id, before.NetBIOSName, because(in.Reason))
	})
	if err != nil {
		return err
	}
	// Those of its connections that no gateway cuts.
	s.wake(r.Context(), []opencmg.ClientID{id})
	return s.answerClient(w, r, id)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// readmitClient is POST Clients/{id}/readmit: a way back (design 12.9).
func (s *Server) readmitClient(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOf(r)
	if err != nil {
		return err
	}
	err = s.db.Change(r.Context(), "readmit client", func(tx *sitedb.Tx) error {
		before, err := tx.ReadmitClient(id)
		if err != nil {
			return noClient(err, id)
		}
		// Its certificate may be another one since.
		blocked, err := all[blockedRecord](tx, kindBlocked)
		if err != nil {
			return err
		}
		for _, b := range blocked {
			if b.Value.Client == id {
				if err := tx.Delete(kindBlocked, b.ID, b.Version); err != nil {
					return err
				}
			}
		}
		if before.Approval != sitedb.ApprovalRefused {
			return nil // no news
		}
		return s.audit(r.Context(), tx, msgChanged, kindClient, string(id), "readmitted client %s (%s), with its tokens and its certificate", id, before.NetBIOSName)
	})
	if err != nil {
		return err
	}
	return s.answerClient(w, r, id)
}

// approveClient is POST Clients/{id}/approve, for one that waits.
func (s *Server) approveClient(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOf(r)
	if err != nil {
		return err
	}
	err = s.db.Change(r.Context(), "approve client", func(tx *sitedb.Tx) error {
		c, err := tx.Client(id)
		switch {
		case err != nil:
			return noClient(err, id)
		case c.Approval.Trusted():
			return nil
		case c.Approval == sitedb.ApprovalRefused:
			return opencmg.Errorf(opencmg.Conflict, "client %s is refused: readmit it", id)
		}
		if err := tx.ApproveClient(id, sitedb.Approved); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, kindClient, string(id), "approved client %s (%s)", id, c.NetBIOSName)
	})
	if err != nil {
		return err
	}
	return s.answerClient(w, r, id)
}

// deleteClient is DELETE Clients/{id}. Its tokens are blocked; a certificate that
// was blocked with it stays blocked, so that it does not come back by itself.
func (s *Server) deleteClient(w http.ResponseWriter, r *http.Request) error {
	id, err := clientOf(r)
	if err != nil {
		return err
	}
	err = s.db.Change(r.Context(), "delete client", func(tx *sitedb.Tx) error {
		c, err := tx.Client(id)
		if err != nil {
			return noClient(err, id)
		}
		if err := tx.RemoveClient(id); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgDeleted, kindClient, string(id), "deleted client %s (%s)", id, c.NetBIOSName)
	})
	if err != nil {
		return err
	}
	s.wake(r.Context(), []opencmg.ClientID{id})
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func siteToken(t sitedb.SiteToken) adminservice.SiteToken {
	return adminservice.SiteToken{ID: strings.ToUpper(t.ID), Kind: t.Kind, ClientID: t.ClientID, ClientName: t.Name, Thumbprint: t.Thumbprint, Issued: t.Issued, Expires: t.Expires, Blocked: t.Blocked}
}

// listSiteTokens is GET SiteTokens.
func (s *Server) listSiteTokens(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	q, err := adminservice.ParseQuery(v)
	if err != nil {
		return err
	}
	if q.Filter != nil || len(q.OrderBy) > 0 || q.Count {
		return opencmg.Errorf(opencmg.Invalid, "$filter, $orderby and $count: are not for site tokens, which are too many; use search, client, id, kind and blocked")
	}
	f := sitedb.TokenFilter{ID: strings.Trim(v.Get("id"), "{}"), Text: v.Get("search"), Kind: opencmg.AuthMode(v.Get("kind"))}
	if f.Kind != "" && f.Kind != opencmg.AuthClientToken && f.Kind != opencmg.AuthCCMToken {
		return opencmg.Errorf(opencmg.Invalid, "kind %q: must be %s or %s", f.Kind, opencmg.AuthClientToken, opencmg.AuthCCMToken).About("kind")
	}
	if c := v.Get("client"); c != "" {
		if f.ClientID, err = opencmg.ParseClientID(c); err != nil {
			return opencmg.Errorf(opencmg.Invalid, "client: %w", err).About("client")
		}
	}
	if f.Blocked, err = queryBool(r, "blocked"); err != nil {
		return err
	}
	expired, err := queryBool(r, "expired")
	if err != nil {
		return err
	}
	f.Expired = expired != nil && *expired
	if !v.Has("$top") {
		q.Top = clientPage
	}
	found, more, err := s.db.SiteTokens(r.Context(), f, q.Skip, q.Top)
	if err != nil {
		return err
	}
	var list []adminservice.SiteToken
	for _, t := range found {
		list = append(list, siteToken(t))
	}
	objects, err := toMaps(list)
	if err != nil {
		return err
	}
	return answerSome(w, r, q, q.Project(objects), more, 0)
}

// setSiteTokenBlocked is POST SiteTokens/{id}/block and unblock.
func (s *Server) setSiteTokenBlocked(blocked bool) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := strings.Trim(r.PathValue("id"), "{}")
		err := s.db.Change(r.Context(), "block token", func(tx *sitedb.Tx) error {
			t, err := tx.SiteToken(id)
			if errors.Is(err, opencmg.NotFound) {
				return opencmg.Errorf(opencmg.NotFound, "there is no site token %.80s", id)
			}
			if err != nil || t.Blocked == blocked {
				return err
			}
			if c, err := tx.Client(t.ClientID); err == nil && c.Approval == sitedb.ApprovalRefused && !blocked {
				return opencmg.Errorf(opencmg.Conflict, "token %s is of client %s, which is blocked: readmit the client", id, c.ID)
			}
			if err := tx.BlockToken(id, blocked); err != nil {
				return err
			}
			return s.audit(r.Context(), tx, msgChanged, "site-token", id, "%s token %s of client %s", map[bool]string{true: "blocked", false: "unblocked"}[blocked], id, t.ClientID)
		})
		if err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}
