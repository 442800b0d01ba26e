package console

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// Administrators: who may sign in to the site, and as what.

func accountViews() []view {
	return []view{{pattern: "accounts", node: "accounts", title: "Administrators", template: "accounts", load: loadAccounts}}
}

func accountActions() []action {
	return []action{{pattern: "accounts/{id}/delete", page: "accounts", do: func(v *Visit) (string, string, error) {
		all, err := list[adminservice.Account](v, "Accounts?search="+url.QueryEscape(v.ID()))
		if err != nil {
			return "", "", err
		}
		for _, a := range all {
			if a.ID == v.ID() {
				if err := typedName(v, a.Name); err != nil {
					return "", "", err
				}
			}
		}
		return backTo(v, "accounts"), "The administrator was deleted, and is signed out everywhere.", v.Do("DELETE", "Accounts/"+url.PathEscape(v.ID()), nil, nil)
	}}}
}

// accountMakers add administrators; the token of a local one is shown once.
func accountMakers() []maker {
	return []maker{{pattern: "accounts", page: "accounts", node: "accounts", said: "The administrator was added.", make: addAccount, fields: fieldNames{"certificateThumbprint": "thumbprint", "entraTenantId": "tenantId", "entraObjectId": "objectId"}}}
}

type accountsPage struct {
	somePage[adminservice.Account]
	Roles   []roleChoice
	Tenants []adminservice.Tenant
}

// A roleChoice is a role with what it may do.
type roleChoice struct {
	Role adminservice.Role
	May  string
}

var roleChoices = []roleChoice{
	{adminservice.FullAdministrator, "everything, administrators included"},
	{adminservice.InfrastructureAdministrator, "set up and change tenants, gateways, connection points and roles"},
	{adminservice.OperationsAdministrator, "start, stop and analyze gateways, block certificates, make bulk registration tokens"},
	{adminservice.ReadOnlyAnalyst, "look"},
}

func loadAccounts(v *Visit) (any, error) {
	p := &accountsPage{Roles: roleChoices}
	var err error
	if p.somePage, err = some[adminservice.Account](v, "accounts", "Accounts", nil); err != nil {
		return nil, err
	}
	p.Tenants, err = list[adminservice.Tenant](v, "Tenants")
	return p, err
}

func addAccount(v *Visit) (*once, error) {
	a := adminservice.Account{Name: v.Form("name"), Role: adminservice.Role(v.Form("role"))}
	switch v.Form("way") {
	case "certificate":
		a.CertificateThumbprint = v.Form("thumbprint")
		b, err := upload(v, "file")
		if err != nil {
			return nil, err
		}
		if len(b) > 0 {
			certs, err := readCertificates(b)
			if err != nil {
				return nil, opencmg.About("file", err)
			}
			sum := sha256.Sum256(certs[0].Raw)
			a.CertificateThumbprint = hex.EncodeToString(sum[:])
		}
	case "entra":
		a.EntraTenantID, a.EntraObjectID = v.Form("tenantId"), v.Form("objectId")
	case "token":
		a.LocalToken = true
	default:
		return nil, opencmg.Errorf(opencmg.Invalid, "choose how the administrator signs in").About("way")
	}
	var made adminservice.Account
	if err := v.Do("POST", "Accounts", a, &made); err != nil || made.Token == "" {
		return nil, err
	}
	return &once{
		Title: "Local token of " + made.Name, Secret: made.Token, Back: "accounts",
		Then: []string{"Give the token to " + made.Name + " in a way that nobody else can read.", "It is typed into the sign-in page of this console, or kept in a file for the command line (opencmg connect)."},
	}, nil
}
