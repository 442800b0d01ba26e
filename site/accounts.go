package site

import (
	"net/http"
	"slices"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/sitedb"
)

func (s *Server) getSite(w http.ResponseWriter, r *http.Request) error {
	c := callerOf(r.Context())
	return answer(w, http.StatusOK, adminservice.Site{
		Code: s.Code(), HierarchyID: s.keys.site.HierarchyID, SiteCA: string(s.SiteCAPEM()), Version: s.cfg.Version,
		Database: s.db.Engine(), Created: s.keys.created, Environments: s.cfg.Environments, Account: c.account, Role: c.role,
	})
}

func account(r *record[accountRecord]) adminservice.Account {
	return adminservice.Account{
		ID: r.ID, Version: r.Version, Name: r.Name, Role: r.Value.Role, Created: r.Created,
		CertificateThumbprint: r.Value.Thumbprint, EntraTenantID: r.Value.EntraTenantID, EntraObjectID: r.Value.EntraObjectID,
		LocalToken: r.Value.TokenHash != "",
	}
}

func (s *Server) addAccount(w http.ResponseWriter, r *http.Request) error {
	var a adminservice.Account
	if err := decodeBody(r, &a); err != nil {
		return err
	}
	if a.Name = strings.TrimSpace(a.Name); a.Name == "" {
		return opencmg.Errorf(opencmg.Invalid, "name: give the administrator a name").About("name")
	}
	if !slices.Contains(adminservice.Roles(), a.Role) {
		return opencmg.Errorf(opencmg.Invalid, "role %q: must be one of %q", a.Role, adminservice.Roles()).About("role")
	}
	v := accountRecord{Role: a.Role, Thumbprint: thumbprint(a.CertificateThumbprint), EntraTenantID: strings.ToLower(a.EntraTenantID), EntraObjectID: strings.ToLower(a.EntraObjectID)}
	ways := 0
	if v.Thumbprint != "" {
		if ways++; !isThumbprint(v.Thumbprint) {
			return opencmg.Errorf(opencmg.Invalid, "certificateThumbprint: must be the SHA-256 of the certificate in hexadecimal").About("certificateThumbprint")
		}
	}
	if v.EntraObjectID != "" || v.EntraTenantID != "" {
		if ways++; !opencmg.IsGUID(v.EntraObjectID) || !opencmg.IsGUID(v.EntraTenantID) {
			field := "entraObjectId"
			if !opencmg.IsGUID(v.EntraTenantID) {
				field = "entraTenantId"
			}
			return opencmg.Errorf(opencmg.Invalid, "entraObjectId and entraTenantId: both must be GUIDs").About(field)
		}
	}
	token := ""
	if a.LocalToken {
		ways++
		token = newSecret()
		v.TokenHash = hashToken(token)
	}
	if ways != 1 {
		return opencmg.Errorf(opencmg.Invalid, "choose one way to sign in: certificateThumbprint, entraObjectId with entraTenantId, or localToken")
	}
	rec := &record[accountRecord]{ID: newGUID(), Name: a.Name, Value: v}
	err := s.db.Change(r.Context(), "add account", func(tx *sitedb.Tx) error {
		// Two accounts of one person would leave the role to chance.
		others, err := all[accountRecord](tx, kindAccount)
		if err != nil {
			return err
		}
		for _, o := range others {
			if v.Thumbprint != "" && o.Value.Thumbprint == v.Thumbprint || v.EntraObjectID != "" && o.Value.EntraObjectID == v.EntraObjectID && o.Value.EntraTenantID == v.EntraTenantID {
				field := "entraObjectId"
				if v.Thumbprint != "" {
					field = "certificateThumbprint"
				}
				return opencmg.Errorf(opencmg.Conflict, "%s signs in that way already: delete that account first", o.Name).About(field)
			}
		}
		if err := rec.put(tx, kindAccount); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindAccount, rec.ID, "added administrator %s as %s", rec.Name, v.Role)
	})
	if err != nil {
		return err
	}
	a = account(rec)
	a.Token = token
	return answerOne(w, http.StatusCreated, rec.Version, a)
}

func (s *Server) deleteAccount(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	err = s.db.Change(r.Context(), "delete account", func(tx *sitedb.Tx) error {
		rec, err := get[accountRecord](tx, kindAccount, id)
		if err != nil {
			return err
		}
		if err := rec.expect(version); err != nil {
			return err
		}
		others, err := all[accountRecord](tx, kindAccount)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(others, func(o *record[accountRecord]) bool {
			return o.ID != id && o.Value.Role == adminservice.FullAdministrator
		}) {
			return opencmg.Errorf(opencmg.Conflict, "%s is the last Full Administrator: add another one first", rec.Name)
		}
		if err := tx.Delete(kindAccount, id, rec.Version); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgDeleted, kindAccount, id, "deleted administrator %s", rec.Name)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
