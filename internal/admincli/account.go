package admincli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// AccountAdd adds an administrator of the site, who signs in in one of three ways.
func AccountAdd(ctx context.Context, e *Env, args []string) error {
	var c connection
	var in adminservice.Account
	var out secretFile
	fs := e.newFlags("account add --name NAME --role ROLE [flags]", "Add an administrator, who signs in as a user of a Microsoft Entra tenant, by a client certificate, or by a local token.")
	c.register(fs)
	fs.StringVar(&in.Name, "name", "", "`name` of the administrator, as status messages show it")
	role := fs.String("role", "", "`role`: "+roleWords())
	fs.StringVar(&in.EntraTenantID, "entra-tenant", "", "`ID` of the user's tenant, with --entra-user")
	fs.StringVar(&in.EntraObjectID, "entra-user", "", "object `ID` of the user in that tenant, as the console says it to whom it does not know")
	certificate := fs.String("certificate", "", "`file` with the administrator's certificate, without its key (PEM)")
	fs.BoolVar(&in.LocalToken, "local-token", false, "make a token, which is shown once")
	out.register(fs)
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if in.Name == "" || *role == "" {
		return usagef("account add: --name and --role are needed")
	}
	var err error
	if in.Role, err = parseRole(*role); err != nil {
		return err
	}
	ways := 0
	for _, given := range []bool{in.EntraTenantID != "" || in.EntraObjectID != "", *certificate != "", in.LocalToken} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return usagef("account add: give one way to sign in: --entra-tenant with --entra-user, --certificate, or --local-token")
	}
	if out.path != "" && !in.LocalToken {
		return usagef("account add: --to is for the token of --local-token")
	}
	if *certificate != "" {
		certs, err := pki.LoadCertificates(*certificate)
		if err != nil {
			return fmt.Errorf("--certificate: %w", err)
		}
		in.CertificateThumbprint = pki.Thumbprint(certs[0])
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	var made adminservice.Account
	add := func() (string, error) {
		err := client.Do(ctx, http.MethodPost, "Accounts", in, &made)
		return made.Token, err
	}
	if in.LocalToken {
		err = out.fill(add)
	} else {
		_, err = add()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "added %s as %s\n", made.Name, made.Role)
	if in.LocalToken {
		return out.print(e, made.Token)
	}
	_, err = fmt.Fprintln(e.Stdout, made.ID)
	return err
}

func roleWords() string {
	var list []string
	for _, r := range adminservice.Roles() {
		list = append(list, string(r))
	}
	return strings.Join(list, ", ")
}

// parseRole takes a role's name in any case, with or without blanks and hyphens.
func parseRole(s string) (adminservice.Role, error) {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(s)) }
	for _, r := range adminservice.Roles() {
		if plain(string(r)) == plain(s) {
			return r, nil
		}
	}
	return "", usagef("account add: --role %q: must be one of %s", s, roleWords())
}

// AccountList lists the administrators.
func AccountList(ctx context.Context, e *Env, args []string) error {
	fs := e.newFlags("account list [flags]", "List the administrators of the site, with the way in which each signs in.")
	return listCommand(ctx, e, fs, args, "Accounts", []string{"name", "role", "signs in by", "created"},
		func(a adminservice.Account) []string {
			way := "local token"
			switch {
			case a.EntraObjectID != "":
				way = "Entra user " + a.EntraObjectID + " of tenant " + a.EntraTenantID
			case a.CertificateThumbprint != "":
				way = "certificate " + a.CertificateThumbprint
			}
			return []string{a.Name, string(a.Role), way, a.Created.Format(time.DateOnly)}
		})
}

// AccountRemove removes an administrator, by name or ID.
func AccountRemove(ctx context.Context, e *Env, args []string) error {
	var c connection
	fs := e.newFlags("account remove NAME [flags]", "Remove an administrator, by name or ID. Whoever is signed in with the account is signed out.")
	c.register(fs)
	name, client, err := c.one(e, fs, args)
	if err != nil {
		return err
	}
	list, err := adminservice.List[adminservice.Account](ctx, client, "Accounts", nil)
	if err != nil {
		return err
	}
	var found []adminservice.Account
	for _, a := range list {
		if a.ID == name || strings.EqualFold(a.Name, name) {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		return opencmg.Errorf(opencmg.NotFound, "account remove: %d accounts are called %q: see opencmg account list --output json for their IDs", len(found), name)
	}
	if err := client.Do(ctx, http.MethodDelete, "Accounts/"+url.PathEscape(found[0].ID), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "removed %s\n", found[0].Name)
	return nil
}
