package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/internal/admincli"
	"github.com/opencmg/opencmg/internal/sitelink"
	"github.com/opencmg/opencmg/pki"
)

// newTokenSigner makes a signer of site tokens.
func newTokenSigner(pair tls.Certificate, hierarchy string) (*pki.TokenSigner, error) {
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, opencmg.Errorf(opencmg.Invalid, "token-signing key: can not sign")
	}
	return pki.NewTokenSigner(key, pair.Leaf, "", "", hierarchy)
}

// loadTokenSigner reads the token-signing key of a site or role directory.
func loadTokenSigner(dir string) (*pki.TokenSigner, error) {
	pair, err := sitelink.LoadKeyPair(filepath.Join(dir, tokenCert), filepath.Join(dir, tokenKey))
	if err != nil {
		return nil, fmt.Errorf("token-signing key: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, hierarchyFile))
	if err != nil {
		return nil, fmt.Errorf("token-signing key: %w", err)
	}
	return newTokenSigner(pair, strings.TrimSpace(string(b)))
}

// runBulkToken asks the site for a token, or with --dir makes one with the key
// in a directory of opencmg publish, where no site runs.
func runBulkToken(ctx context.Context, e *env, args []string) error {
	for _, a := range args {
		if name, _, _ := strings.Cut(a, "="); name == "--dir" || name == "-dir" {
			return bulkTokenOfDir(e, args)
		}
	}
	return admin(admincli.BulkTokenNew)(ctx, e, args)
}

func bulkTokenOfDir(e *env, args []string) error {
	args, _ = admincli.BulkTokenSwitches(args)
	fs := newFlags(e, "bulk-token new")
	dir := fs.String("dir", "", "site `directory` that opencmg publish made")
	minutes := fs.Int("lifetime", int(pki.BulkDefaultLifetime/time.Minute), "validity in `minutes`, at most 10080")
	if err := parseFlags(fs, args, 0); err != nil {
		return err
	}
	if *dir == "" {
		return usagef("bulk-token new: --dir is empty")
	}
	signer, err := loadTokenSigner(*dir)
	if err != nil {
		return err
	}
	t, err := signer.Bulk(time.Duration(*minutes)*time.Minute, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "GUID:  %s\nvalid: until %s\n", t.ID, t.Expires.Format(time.RFC3339))
	fmt.Fprintln(e.stdout, t.Raw)
	return nil
}

// splitHosts sorts host names and addresses for a certificate.
func splitHosts(hosts []string) (names []string, ips []net.IP) {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			ips = append(ips, ip)
		} else {
			names = append(names, h)
		}
	}
	return names, ips
}

// newGUID returns a random GUID in capitals (RFC 9562 version 4).
func newGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
