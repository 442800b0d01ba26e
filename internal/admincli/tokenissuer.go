package admincli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

// TokenIssuerAdd makes the gateways accept the tokens that another site signs,
// such as those of an existing Configuration Manager site.
func TokenIssuerAdd(ctx context.Context, e *Env, args []string) error {
	var c connection
	var in adminservice.TokenIssuer
	fs := e.newFlags("token-issuer add --certificate FILE --issuer NAME [flags]", "Accept the tokens that another site signs.\nThe certificate is that site's token-signing certificate, in PEM.")
	c.register(fs)
	file := fs.String("certificate", "", "`file` with the token-signing certificate (PEM)")
	fs.StringVar(&in.Issuer, "issuer", "", "what the tokens have as `issuer` (iss)")
	fs.StringVar(&in.Audience, "audience", "", "what the tokens have as `audience` (aud); default urn:sccm:service")
	fs.BoolVar(&in.AllowUnbound, "allow-unbound", false, "accept tokens that are bound to no key, as Configuration Manager's are; whoever has such a token can use it")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *file == "" || in.Issuer == "" {
		return usagef("token-issuer add: --certificate and --issuer are needed")
	}
	b, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("--certificate: %w", err)
	}
	in.Certificate = string(b)
	client, err := c.client(e)
	if err != nil {
		return err
	}
	var made adminservice.TokenIssuer
	if err := client.Do(ctx, http.MethodPost, "TokenIssuers", in, &made); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "tokens of %s are accepted until %s\n", made.Issuer, made.Ends.Format(time.DateOnly))
	_, err = fmt.Fprintln(e.Stdout, made.ID)
	return err
}

// TokenIssuerList lists the sites whose tokens are accepted.
func TokenIssuerList(ctx context.Context, e *Env, args []string) error {
	fs := e.newFlags("token-issuer list [flags]", "List the other sites whose tokens are accepted.")
	return listCommand(ctx, e, fs, args, "TokenIssuers", []string{"id", "issuer", "audience", "until"},
		func(i adminservice.TokenIssuer) []string {
			return []string{i.ID, i.Issuer, i.Audience, i.Ends.Format(time.DateOnly)}
		})
}

// TokenIssuerRemove refuses another site's tokens again.
func TokenIssuerRemove(ctx context.Context, e *Env, args []string) error {
	var c connection
	fs := e.newFlags("token-issuer remove ID [flags]", "Refuse the tokens of another site again.")
	c.register(fs)
	id, client, err := c.one(e, fs, args)
	if err != nil {
		return err
	}
	err = client.Do(ctx, http.MethodDelete, "TokenIssuers/"+url.PathEscape(id), nil, nil)
	if errors.Is(err, opencmg.NotFound) {
		return opencmg.Errorf(opencmg.NotFound, "there is no token issuer %q: opencmg token-issuer list shows those of the site", id)
	}
	return err
}
