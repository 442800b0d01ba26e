package admincli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// JoinTokenNew makes a join token: a host becomes a connection point, a
// management point or an instance of a gateway by it.
func JoinTokenNew(ctx context.Context, e *Env, args []string) error {
	var c connection
	var in adminservice.JoinTokenRecord
	var out secretFile
	var gateway string
	fs := e.newFlags("join-token new --kind KIND [flags]", "Make a token by which hosts join the site.")
	c.register(fs)
	fs.StringVar(&in.Kind, "kind", "", "`kind` of host: connection-point, management-point or gateway")
	fs.StringVar(&gateway, "gateway", "", "`name` of the gateway that the host joins, or that the connection point serves")
	fs.IntVar(&in.Uses, "uses", 1, "how many hosts may join with it, a `number`")
	fs.IntVar(&in.Minutes, "lifetime", 60, "validity in `minutes`, at most 43200")
	fs.Var((*texts)(&in.Sources), "source", "`prefix` of addresses from which hosts may join, such as 192.0.2.0/24; may be repeated")
	fs.Var((*texts)(&in.Hosts), "host", "of a gateway: `name` or address at which connection points find its hosts; may be repeated; default is the service name")
	fs.IntVar(&in.HTTPSPort, "https-port", 0, "of a gateway: `port` for clients; default 443")
	fs.IntVar(&in.TunnelPort, "tunnel-port", 0, "of a gateway: `port` for tunnels; default 10140")
	out.register(fs)
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	in.Kind = strings.ToLower(in.Kind)
	if in.Kind == "" {
		return usagef("join-token new: --kind is needed: connection-point, management-point or gateway")
	}
	if in.Uses < 1 || in.Minutes < 1 {
		return usagef("join-token new: --uses and --lifetime must be 1 or more")
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	if gateway != "" {
		g, err := adminservice.Get[adminservice.Gateway](ctx, client, "Gateways/"+url.PathEscape(gateway))
		if err != nil {
			return fmt.Errorf("--gateway: %w", err)
		}
		in.GatewayID = g.ID
	}
	var t adminservice.JoinTokenRecord
	if err := out.fill(func() (string, error) {
		err := client.Do(ctx, http.MethodPost, "JoinTokens", in, &t)
		return t.Token, err
	}); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "ID:    %s\nvalid: until %s, for %d hosts of kind %s\n", t.ID, t.Expires.Format(time.RFC3339), t.Uses, t.Kind)
	return out.print(e, t.Token)
}

// JoinTokenList lists the join tokens.
func JoinTokenList(ctx context.Context, e *Env, args []string) error {
	fs := e.newFlags("join-token list [flags]", "List the tokens by which hosts may join the site.")
	return listCommand(ctx, e, fs, args, "JoinTokens", []string{"id", "kind", "gateway", "expires", "left", "used", "sources"},
		func(t adminservice.JoinTokenRecord) []string {
			return []string{t.ID, t.Kind, t.GatewayID, stamp(t.Expires), strconv.Itoa(t.Uses), strconv.Itoa(t.Used), strings.Join(t.Sources, " ")}
		})
}

// JoinTokenDelete revokes a join token. Hosts that joined with it stay.
func JoinTokenDelete(ctx context.Context, e *Env, args []string) error {
	var c connection
	fs := e.newFlags("join-token delete ID [flags]", "Revoke a join token. Hosts that joined with it stay.")
	c.register(fs)
	id, client, err := c.one(e, fs, args)
	if err != nil {
		return err
	}
	if err := client.Do(ctx, http.MethodDelete, "JoinTokens/"+url.PathEscape(id), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "revoked join token %s\n", id)
	return nil
}
