package sitelink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
)

// JoinOptions say who joins.
type JoinOptions struct {
	Token adminservice.JoinToken
	Kind  string // adminservice.SystemConnectionPoint or SystemManagementPoint
	Name  string // at the site
	// Addresses and Internal are of a management point, see
	// adminservice.JoinRequest.
	Addresses []string
	Internal  string
	// Dir becomes the identity directory. It must not hold an identity yet.
	Dir string
	// DialContext opens the connection to the site; nil is that of net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Join makes a key that never leaves the host, joins the site, and writes the
// identity directory. Nothing is written when the site refuses.
func Join(ctx context.Context, o JoinOptions) (*adminservice.JoinReply, error) {
	for _, f := range []string{CertificateFile, KeyFile, nextFile(CertificateFile)} {
		if _, err := os.Lstat(filepath.Join(o.Dir, f)); err == nil {
			return nil, opencmg.Errorf(opencmg.Conflict, "%s holds an identity already: this host has joined. To join again as somebody else, stop the service and remove the directory", o.Dir)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil { // before the token is used up
		return nil, err
	}
	key, request, err := newRequest()
	if err != nil {
		return nil, err
	}
	c, err := adminservice.NewSystemClient(adminservice.SystemConfig{
		URL: o.Token.URL, Site: o.Token.Site, SiteCAThumbprint: o.Token.SiteCA, DialContext: o.DialContext,
	})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	reply, err := c.Join(ctx, adminservice.JoinRequest{
		ID: o.Token.ID, Secret: o.Token.Secret, Kind: o.Kind, Name: o.Name, Request: request, Addresses: o.Addresses, Internal: o.Internal,
	})
	if err != nil {
		return nil, err
	}
	if reply.Site != o.Token.Site {
		return nil, opencmg.Errorf(opencmg.Invalid, "the site answered as site %s; the join token is of site %s", reply.Site, o.Token.Site)
	}
	cas, err := pki.ParseCertificates([]byte(reply.SiteCA))
	if err != nil {
		return nil, fmt.Errorf("the site CA's certificate: %w", err)
	}
	if pki.Thumbprint(cas[0]) != o.Token.SiteCA {
		return nil, opencmg.Errorf(opencmg.Invalid, "the site gave another site CA than the one that the join token names")
	}
	identity := opencmg.ConnectionPointURI(reply.Site, reply.ConnectionID)
	if o.Kind == adminservice.SystemManagementPoint {
		if err := reply.RoleID.Validate(); err != nil {
			return nil, fmt.Errorf("the site's answer: %w", err)
		}
		identity = opencmg.RoleURI(reply.Site, reply.RoleID)
	} else if reply.ConnectionID == "" {
		return nil, opencmg.Errorf(opencmg.Invalid, "the site gave no connection ID")
	}
	if reply.Name == "" || strings.ContainsAny(reply.Name, "\r\n") {
		return nil, opencmg.Errorf(opencmg.Invalid, "the site gave a name that can not be used")
	}
	pair, err := pairOf(reply.Certificate, key, cas[0], identity, time.Now())
	if err != nil {
		return nil, err
	}
	if err := pki.WriteFile(filepath.Join(o.Dir, SiteCAFile), pki.EncodeCertificates(cas[0]), 0o644); err != nil {
		return nil, err
	}
	return reply, ReplaceKeyPair(filepath.Join(o.Dir, CertificateFile), filepath.Join(o.Dir, KeyFile), pair)
}
