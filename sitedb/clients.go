package sitedb

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
)

// An Approval says whether the site trusts a client. The numbers are those of
// the clients' messages (wire.md 5.3).
type Approval int

// The approval states.
const (
	ApprovalRefused Approval = -1
	ApprovalPending Approval = 0
	Approved        Approval = 1
	ApprovedByEntra Approval = 3
)

// Trusted reports whether a client in this state may do more than wait.
func (a Approval) Trusted() bool { return a == Approved || a == ApprovedByEntra }

// A Client is a registered client.
type Client struct {
	ID           opencmg.ClientID
	NetBIOSName  string
	FQDN         string
	AgentVersion string
	Approval     Approval
	// Auth is how the client registered; TenantID, DeviceID and Subject are
	// what it proved then.
	Auth                        opencmg.AuthMode
	TenantID, DeviceID, Subject string
	// Thumbprint is the SHA-256 of the certificate whose key the client proved
	// in TLS when it registered; empty when there was none.
	Thumbprint string
	// Signing is the certificate that proves the client's messages.
	Signing    *x509.Certificate
	Encryption *x509.Certificate // may be nil
	// Group is the label of the bulk registration token that the client
	// registered with last, of those that have one.
	Group      string
	Registered time.Time
	LastSeen   time.Time
	// LastPolicy is its last request for policy, see [DB.PolicyRequested].
	LastPolicy time.Time
	// Blocked is when BlockedBy blocked it; zero when it is not blocked.
	Blocked                time.Time
	BlockedBy, BlockReason string
}

// A Registration is what a client says about itself, checked by the caller:
// the signature fits Signing, and the identity was proved.
type Registration struct {
	// Client's ID is the one that the client believes to have, if any. Times
	// are not read.
	Client
	// TokenID is the ID of the bulk registration token that the client came
	// with, empty when it came otherwise; Source is the client's address, the
	// zero value when nobody knows it. The token's limits are enforced, and its
	// group becomes the client's.
	TokenID string
	Source  netip.Addr
}

// An Outcome says what a registration led to.
type Outcome string

// The outcomes of a registration.
const (
	OutcomeNew       Outcome = "new"               // a client nobody knew
	OutcomeKnown     Outcome = "known"             // the same client again
	OutcomeReset     Outcome = "certificate reset" // the same client with a new key
	OutcomeDuplicate Outcome = "duplicate, new ID" // an ID that belongs to another key
)

// KeyID returns the name of a certificate's public key: the lower-case
// hexadecimal SHA-256 of its SubjectPublicKeyInfo (RFC 5280).
func KeyID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// RegisterClient makes the client known and returns it as stored.
//
//   - A known key is a known client, whatever ID it believes to have: details
//     are updated, and approval is only ever raised.
//   - An ID that is taken by another key belongs to the same client only if the
//     same Entra device or the same PKI subject proved itself; then the key is
//     replaced. Otherwise the ID stays where it is and the newcomer gets one of
//     its own.
//   - A refused client is known again under a new key too, by its Entra device
//     or PKI subject, and stays refused.
//   - Anybody else is new, under the ID it brought or a fresh one.
//
// A bulk registration token that does not let the client register is a
// [TokenRefusal], and nothing is counted or stored.
func (db *DB) RegisterClient(ctx context.Context, r Registration) (client Client, outcome Outcome, err error) {
	if r.Signing == nil {
		return Client{}, "", opencmg.Errorf(opencmg.Invalid, "register client: the signing certificate is missing")
	}
	err = db.transact(ctx, "register client", func(tx *Tx) (err error) {
		c := r.Client
		c.Registered, c.LastSeen = tx.now, tx.now
		if r.TokenID != "" {
			if c.Group, err = tx.useToken(r.TokenID, KeyID(c.Signing), r.Source); err != nil {
				return err
			}
		}
		known, err := scanClient(tx.row(selectClient+"WHERE signing_key = ?", KeyID(c.Signing)))
		if err == nil {
			outcome = OutcomeKnown
			return tx.replaceClient(known, c, &client)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		outcome = OutcomeNew
		if c.ID != "" {
			holder, err := scanClient(tx.row(selectClient+"WHERE id = ?", string(c.ID)))
			switch {
			case errors.Is(err, sql.ErrNoRows):
			case err != nil:
				return err
			case sameDevice(holder, c) && holder.Approval != ApprovalRefused:
				outcome = OutcomeReset
				return tx.replaceClient(holder, c, &client)
			default:
				outcome = OutcomeDuplicate
				c.ID = ""
			}
		}
		refused, err := tx.refusedDevice(c)
		switch {
		case err == nil:
			outcome = OutcomeReset
			return tx.replaceClient(refused, c, &client)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if c.ID == "" {
			c.ID = newClientID()
		}
		client = c
		return tx.exec(`INSERT INTO clients (netbios_name, fqdn, agent_version, approval, auth, tenant_id, device_id, subject, thumbprint, signing_key, signing_cert, encryption_cert, registered, changed, last_seen, search_text, group_name, id)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, c.columns(tx.now)...)
	})
	return client, outcome, err
}

// replaceClient stores c over known, which keeps its ID, the day it was first
// seen, and a trust that it had.
func (tx *Tx) replaceClient(known, c Client, stored *Client) error {
	c.ID, c.Registered, c.LastPolicy = known.ID, known.Registered, known.LastPolicy
	c.Blocked, c.BlockedBy, c.BlockReason = known.Blocked, known.BlockedBy, known.BlockReason
	if known.Approval.Trusted() && !c.Approval.Trusted() || known.Approval == ApprovalRefused {
		c.Approval = known.Approval
	}
	if c.Group == "" {
		c.Group = known.Group
	}
	if bytes.Equal(known.Signing.RawSubjectPublicKeyInfo, c.Signing.RawSubjectPublicKeyInfo) {
		// What was proved for this key stays proved, when it now comes with
		// less.
		if c.Auth == opencmg.AuthNone && known.Auth != opencmg.AuthNone || c.Thumbprint == "" {
			c.Auth, c.Thumbprint = known.Auth, known.Thumbprint
		}
		if c.DeviceID == "" {
			c.TenantID, c.DeviceID = known.TenantID, known.DeviceID
		}
		if c.Subject == "" {
			c.Subject = known.Subject
		}
	}
	*stored = c
	return tx.exec(`UPDATE clients SET netbios_name = ?, fqdn = ?, agent_version = ?, approval = ?, auth = ?, tenant_id = ?, device_id = ?, subject = ?, thumbprint = ?, signing_key = ?, signing_cert = ?, encryption_cert = ?, registered = ?, changed = ?, last_seen = ?, search_text = ?, group_name = ?
		WHERE id = ?`, c.columns(tx.now)...)
}

func sameDevice(known, c Client) bool {
	entra := c.DeviceID != "" && c.TenantID != "" && strings.EqualFold(known.DeviceID, c.DeviceID) && strings.EqualFold(known.TenantID, c.TenantID)
	cert := c.Auth == opencmg.AuthPKI && c.Subject != "" && known.Auth == opencmg.AuthPKI && known.Subject == c.Subject
	return entra || cert
}

// columns are the values in the order of the statements, the ID last.
func (c *Client) columns(now time.Time) []any {
	var encryption []byte
	if c.Encryption != nil {
		encryption = c.Encryption.Raw
	}
	return []any{c.NetBIOSName, c.FQDN, c.AgentVersion, int(c.Approval), string(c.Auth), c.TenantID, c.DeviceID, c.Subject, c.Thumbprint,
		KeyID(c.Signing), c.Signing.Raw, encryption, micros(c.Registered), micros(now), micros(c.LastSeen), searchText(c.NetBIOSName, c.FQDN, c.ID), c.Group, string(c.ID)}
}

// ApproveClient sets the approval of a client.
func (db *DB) ApproveClient(ctx context.Context, id opencmg.ClientID, a Approval) error {
	return db.transact(ctx, "approve client", func(tx *Tx) error { return tx.ApproveClient(id, a) })
}

// ApproveClient sets the approval of a client that is not blocked.
func (tx *Tx) ApproveClient(id opencmg.ClientID, a Approval) error {
	n, err := tx.count("UPDATE clients SET approval = ?, changed = ? WHERE id = ? AND blocked = 0", int(a), micros(tx.now), string(id))
	if err != nil || n > 0 {
		return err
	}
	if _, err := tx.Client(id); err != nil {
		return opencmg.Errorf(opencmg.NotFound, "there is no client %s", id)
	}
	return opencmg.Errorf(opencmg.Conflict, "client %s is blocked, and its tokens with it: readmit it", id)
}

// RemoveClient forgets a client and everything it reported. Its tokens are
// blocked until they expire.
func (db *DB) RemoveClient(ctx context.Context, id opencmg.ClientID) error {
	return db.transact(ctx, "remove client", func(tx *Tx) error { return tx.RemoveClient(id) })
}

// RemoveClient forgets a client, see [DB.RemoveClient].
func (tx *Tx) RemoveClient(id opencmg.ClientID) error {
	if err := tx.exec("UPDATE tokens SET blocked = 1 WHERE client_id = ?", string(id)); err != nil {
		return err
	}
	return tx.must(opencmg.Errorf(opencmg.NotFound, "there is no client %s", id), "DELETE FROM clients WHERE id = ?", string(id))
}

const selectClient = `SELECT id, netbios_name, fqdn, agent_version, approval, auth, tenant_id, device_id, subject, thumbprint, signing_cert, encryption_cert, registered, last_seen, group_name, last_policy, blocked, blocked_by, block_reason FROM clients `

func scanClient(row scanner) (Client, error) {
	var c Client
	var signing, encryption []byte
	var registered, seen, policy, blocked int64
	err := row.Scan(&c.ID, &c.NetBIOSName, &c.FQDN, &c.AgentVersion, &c.Approval, &c.Auth, &c.TenantID, &c.DeviceID, &c.Subject, &c.Thumbprint, &signing, &encryption, &registered, &seen, &c.Group, &policy, &blocked, &c.BlockedBy, &c.BlockReason)
	if err != nil {
		return Client{}, err
	}
	if c.Signing, err = x509.ParseCertificate(signing); err != nil {
		return Client{}, fmt.Errorf("stored signing certificate of %s: %w", c.ID, err)
	}
	if encryption != nil {
		if c.Encryption, err = x509.ParseCertificate(encryption); err != nil {
			return Client{}, fmt.Errorf("stored encryption certificate of %s: %w", c.ID, err)
		}
	}
	c.Registered, c.LastSeen, c.LastPolicy, c.Blocked = fromMicros(registered), fromMicros(seen), fromMicros(policy), fromMicros(blocked)
	return c, nil
}

// Client returns the client with this ID.
func (db *DB) Client(ctx context.Context, id opencmg.ClientID) (Client, error) {
	c, err := scanClient(db.row(ctx, selectClient+"WHERE id = ?", string(id)))
	return c, wrap(err, "client "+string(id))
}

// Client returns the client with this ID.
func (tx *Tx) Client(id opencmg.ClientID) (Client, error) {
	c, err := scanClient(tx.row(selectClient+"WHERE id = ?", string(id)))
	return c, wrap(err, "client "+string(id))
}

// ClientByKey returns the client that registered this key, see [KeyID].
func (db *DB) ClientByKey(ctx context.Context, keyID string) (Client, error) {
	c, err := scanClient(db.row(ctx, selectClient+"WHERE signing_key = ?", keyID))
	return c, wrap(err, "client by key")
}

// ClientByThumbprint returns the client that registered over TLS with the
// certificate of this thumbprint, the latest if there are several.
func (db *DB) ClientByThumbprint(ctx context.Context, thumbprint string) (Client, error) {
	c, err := scanClient(db.row(ctx, selectClient+"WHERE thumbprint = ? AND thumbprint <> '' ORDER BY changed DESC LIMIT 1", thumbprint))
	return c, wrap(err, "client by certificate")
}

func newClientID() opencmg.ClientID {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562 version 4
	return opencmg.ClientID(fmt.Sprintf("GUID:%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
