package labcloud

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Secrets of applications in Graph. A secret is told once.

func (s *Server) addPassword(c *graphCall) (int, any, *graphError) {
	a, fail := s.applicationOf(c)
	if fail != nil {
		return 0, nil, fail
	}
	m, fail := s.readGraph(c, "addPassword", addPasswordBody{})
	if fail != nil {
		return 0, nil, fail
	}
	now := s.cfg.Now().UTC().Truncate(time.Second)
	k := appSecret{KeyID: newGUID(), Name: text(m, "passwordCredential", "displayName"), Start: now, End: now.AddDate(2, 0, 0), Lag: s.lag()}
	for name, at := range map[string]*time.Time{"startDateTime": &k.Start, "endDateTime": &k.End} {
		if v := text(m, "passwordCredential", name); v != "" {
			t, err := time.Parse(time.RFC3339, v)
			if err != nil {
				return 0, nil, badRequest("Invalid value specified for property '" + name + "' of resource 'PasswordCredential'.")
			}
			*at = t.UTC()
		}
	}
	if !k.End.After(k.Start) || !k.End.After(now) {
		return 0, nil, badRequest("Key credential end date is invalid.")
	}
	value := rand.Text()[:8] + "~" + rand.Text()
	k.Hash, k.Hint = secretHash(value), value[:3]
	a.Secrets = append(a.Secrets, k)
	s.dirty = true
	out := showSecret(k)
	out["secretText"] = value
	return http.StatusOK, out, nil
}

func (s *Server) removePassword(c *graphCall) (int, any, *graphError) {
	a, fail := s.applicationOf(c)
	if fail != nil {
		return 0, nil, fail
	}
	m, fail := s.readGraph(c, "removePassword", removePasswordBody{})
	if fail != nil {
		return 0, nil, fail
	}
	i := slices.IndexFunc(a.Secrets, func(k appSecret) bool { return strings.EqualFold(k.KeyID, text(m, "keyId")) })
	if i < 0 {
		return 0, nil, badRequest("No password credential found with keyId '" + text(m, "keyId") + "'.")
	}
	a.Secrets = slices.Delete(a.Secrets, i, i+1)
	s.dirty = true
	return http.StatusNoContent, nil, nil
}
