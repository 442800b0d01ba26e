package site

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// trustedRecord is a root or intermediate of clients' certificates.
type trustedRecord struct {
	Store          string    `json:"store"`
	Certificate    string    `json:"certificate"` // PEM
	Thumbprint     string    `json:"thumbprint"`  // SHA-256
	Ends           time.Time `json:"ends"`
	RevocationList string    `json:"revocationList,omitempty"`
}

func trusted(r *record[trustedRecord]) adminservice.TrustedCertificate {
	return adminservice.TrustedCertificate{
		ID: r.ID, Version: r.Version, Store: r.Value.Store, Certificate: r.Value.Certificate, Subject: r.Name,
		Thumbprint: r.Value.Thumbprint, Ends: r.Value.Ends, RevocationList: r.Value.RevocationList,
	}
}

func (s *Server) addTrusted(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.TrustedCertificate
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	switch {
	case strings.EqualFold(in.Store, adminservice.RootCA):
		in.Store = adminservice.RootCA
	case strings.EqualFold(in.Store, adminservice.IntermediateCA):
		in.Store = adminservice.IntermediateCA
	default:
		return opencmg.Errorf(opencmg.Invalid, "store %q: must be RootCA or IntermediateCA", in.Store).About("store")
	}
	certs, err := pki.ParseCertificates([]byte(in.Certificate))
	if err != nil {
		return opencmg.Errorf(opencmg.Invalid, "certificate: %w", err).About("certificate")
	}
	c := certs[0]
	root := string(c.RawIssuer) == string(c.RawSubject)
	switch {
	case len(certs) != 1:
		return opencmg.Errorf(opencmg.Invalid, "certificate: holds %d certificates: upload them one by one, each into its store", len(certs)).About("certificate")
	case !c.IsCA:
		return opencmg.Errorf(opencmg.Invalid, "certificate %q is not that of a CA: upload the certificates above the clients' own", c.Subject).About("certificate")
	case root != (in.Store == adminservice.RootCA):
		return opencmg.Errorf(opencmg.Invalid, "certificate %q is %s: choose the other store", c.Subject, map[bool]string{true: "a root", false: "issued by " + c.Issuer.String() + " and so an intermediate"}[root]).About("certificate")
	case s.cfg.Now().After(c.NotAfter):
		return opencmg.Errorf(opencmg.Invalid, "certificate %q expired at %s: upload its successor", c.Subject, c.NotAfter.UTC().Format(time.RFC3339)).About("certificate")
	}
	if in.RevocationList != "" {
		if u, err := url.Parse(in.RevocationList); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return opencmg.Errorf(opencmg.Invalid, "revocationList %q: must be an http or https address", in.RevocationList).About("revocationList")
		}
	}
	rec := &record[trustedRecord]{ID: pki.Thumbprint(c)[:16], Name: c.Subject.String(), Value: trustedRecord{
		Store: in.Store, Certificate: string(pki.EncodeCertificates(c)), Thumbprint: pki.Thumbprint(c), Ends: c.NotAfter.UTC(), RevocationList: in.RevocationList,
	}}
	if rec.Name == "" {
		rec.Name = rec.ID
	}
	// Two CAs may have one subject; the database wants names to be unique.
	rec.Name += " " + rec.ID
	err = s.db.Change(r.Context(), "add trusted certificate", func(tx *sitedb.Tx) error {
		if err := rec.put(tx, kindTrusted); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindTrusted, rec.ID, "added %s %s", in.Store, rec.Name)
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusCreated, rec.Version, trusted(rec))
}

func (s *Server) deleteTrusted(w http.ResponseWriter, r *http.Request) error {
	return remove(s, w, r, kindTrusted, "trusted certificate", func(tx *sitedb.Tx, rec *record[trustedRecord]) error {
		gateways, err := all[gatewayRecord](tx, kindGateway)
		if err != nil {
			return err
		}
		for _, g := range gateways {
			if slices.Contains(g.Value.Settings.Certificates, rec.ID) {
				return opencmg.Errorf(opencmg.Conflict, "gateway %s trusts the certificate by name: take it out of its certificates first", g.Name)
			}
		}
		return nil
	})
}

// remove deletes the object that the path names. check may refuse.
func remove[T any](s *Server, w http.ResponseWriter, r *http.Request, kind, what string, check func(*sitedb.Tx, *record[T]) error) error {
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	err = s.db.Change(r.Context(), "delete "+what, func(tx *sitedb.Tx) error {
		rec, err := get[T](tx, kind, r.PathValue("id"))
		if err != nil {
			return err
		}
		if err := rec.expect(version); err != nil {
			return err
		}
		if check != nil {
			if err := check(tx, rec); err != nil {
				return err
			}
		}
		if err := tx.Delete(kind, rec.ID, rec.Version); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgDeleted, kind, rec.ID, "deleted %s %s", what, rec.Name)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// tokenIssuerRecord is another site's token-signing certificate.
type tokenIssuerRecord struct {
	opencmg.TokenIssuer
	Ends time.Time `json:"ends"`
}

func tokenIssuer(r *record[tokenIssuerRecord]) adminservice.TokenIssuer {
	v := r.Value
	return adminservice.TokenIssuer{ID: r.ID, Version: r.Version, Certificate: v.Certificate, Issuer: v.Issuer, Audience: v.Audience, AllowUnbound: v.AllowUnbound, Ends: v.Ends}
}

func (s *Server) addTokenIssuer(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.TokenIssuer
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	issuer := opencmg.TokenIssuer{Certificate: in.Certificate, Issuer: in.Issuer, Audience: in.Audience, AllowUnbound: in.AllowUnbound}
	if issuer.Audience == "" {
		issuer.Audience = pki.SiteAudience
	}
	if _, err := pki.NewTokenVerifier(&opencmg.PublishedConfiguration{TokenIssuers: []opencmg.TokenIssuer{issuer}}, nil, nil); err != nil {
		return opencmg.Errorf(opencmg.Invalid, "%w", err)
	}
	certs, err := pki.ParseCertificates([]byte(in.Certificate))
	if err != nil {
		return err
	}
	if s.cfg.Now().After(certs[0].NotAfter) {
		return opencmg.Errorf(opencmg.Invalid, "certificate %q expired at %s: ask the other site for its present one", certs[0].Subject, certs[0].NotAfter.UTC().Format(time.RFC3339)).About("certificate")
	}
	rec := &record[tokenIssuerRecord]{ID: pki.Thumbprint(certs[0])[:16], Name: issuer.Issuer + " " + pki.Thumbprint(certs[0])[:16], Value: tokenIssuerRecord{issuer, certs[0].NotAfter.UTC()}}
	err = s.db.Change(r.Context(), "add token issuer", func(tx *sitedb.Tx) error {
		if err := rec.put(tx, kindTokenIssuer); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindTokenIssuer, rec.ID, "imported the token-signing certificate of %s", issuer.Issuer)
	})
	if err != nil {
		return err
	}
	in.ID, in.Version, in.Audience, in.Ends = rec.ID, rec.Version, issuer.Audience, rec.Value.Ends
	return answerOne(w, http.StatusCreated, rec.Version, in)
}

func (s *Server) deleteTokenIssuer(w http.ResponseWriter, r *http.Request) error {
	return remove[tokenIssuerRecord](s, w, r, kindTokenIssuer, "token issuer", nil)
}

type blockedRecord struct {
	Reason string `json:"reason,omitempty"`
	// Client is the client that it was blocked with, and is accepted with again.
	Client opencmg.ClientID `json:"client,omitempty"`
}

func blockedCertificate(r *record[blockedRecord]) adminservice.BlockedCertificate {
	return adminservice.BlockedCertificate{ID: r.ID, Version: r.Version, Reason: r.Value.Reason, ClientID: r.Value.Client, Blocked: r.Created}
}

func (s *Server) blockCertificate(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.BlockedCertificate
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	id := thumbprint(in.ID)
	if !isThumbprint(id) {
		return opencmg.Errorf(opencmg.Invalid, "id: must be the SHA-256 thumbprint of the certificate in hexadecimal").About("id")
	}
	rec := &record[blockedRecord]{ID: id, Name: id, Value: blockedRecord{Reason: in.Reason}}
	err := s.db.Change(r.Context(), "block certificate", func(tx *sitedb.Tx) error {
		if err := rec.put(tx, kindBlocked); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindBlocked, id, "blocked certificate %s: %s", id, in.Reason)
	})
	if err != nil {
		return err
	}
	return answerOne(w, http.StatusCreated, rec.Version, blockedCertificate(rec))
}

// thumbprint writes a SHA-256 thumbprint as the site does: without the colons
// and spaces that programs put between its bytes.
func thumbprint(s string) string {
	return strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(s))
}

func isThumbprint(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func (s *Server) unblockCertificate(w http.ResponseWriter, r *http.Request) error {
	r.SetPathValue("id", thumbprint(r.PathValue("id")))
	return remove[blockedRecord](s, w, r, kindBlocked, "blocked certificate", nil)
}
