package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// A crlList is a verified certificate revocation list (RFC 5280 5), reduced to
// what is asked of it.
type crlList struct {
	number                 *big.Int // nil: none
	thisUpdate, nextUpdate time.Time
	revoked                map[string]revocation // by the serial number's bytes
	scope                  issuingDistributionPoint
}

type revocation struct {
	at     time.Time
	reason int
}

func (r revocation) String() string {
	reasons := []string{"unspecified", "key compromise", "CA compromise", "affiliation changed", "superseded",
		"cessation of operation", "certificate hold", "reason 7", "removed from list", "privilege withdrawn", "AA compromise"}
	reason := "reason " + fmt.Sprint(r.reason)
	if r.reason >= 0 && r.reason < len(reasons) {
		reason = reasons[r.reason]
	}
	return "revoked at " + r.at.UTC().Format(time.RFC3339) + " (" + reason + ")"
}

// issuingDistributionPoint limits what a list covers (RFC 5280 5.2.5).
type issuingDistributionPoint struct {
	Name            distributionPointName `asn1:"optional,tag:0"`
	OnlyUserCerts   bool                  `asn1:"optional,tag:1"`
	OnlyCACerts     bool                  `asn1:"optional,tag:2"`
	OnlySomeReasons asn1.BitString        `asn1:"optional,tag:3"`
	Indirect        bool                  `asn1:"optional,tag:4"`
	OnlyAttributes  bool                  `asn1:"optional,tag:5"`
}

type distributionPointName struct {
	FullName     []asn1.RawValue  `asn1:"optional,tag:0"`
	RelativeName pkix.RDNSequence `asn1:"optional,tag:1"`
}

var (
	oidDeltaCRL          = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingDistPoint  = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
)

// parseCRL reads a list, DER or PEM, and checks that it is the issuer's and a
// complete one.
func parseCRL(data []byte, issuer *x509.Certificate) (*crlList, error) {
	if len(data) == 0 {
		return nil, errors.New("the answer is empty")
	}
	if block, _ := pem.Decode(data); block != nil && block.Type == "X509 CRL" {
		data = block.Bytes
	}
	rl, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("the answer is not a revocation list: %w", err)
	}
	if !bytes.Equal(rl.RawIssuer, issuer.RawSubject) {
		return nil, fmt.Errorf("the list is of issuer %q, not of %q", rl.Issuer, issuer.Subject)
	}
	if err := rl.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("the list's signature is not of %s: %w", describe(issuer), err)
	}
	list := &crlList{number: rl.Number, thisUpdate: rl.ThisUpdate, nextUpdate: rl.NextUpdate, revoked: make(map[string]revocation, len(rl.RevokedCertificateEntries))}
	if rl.NextUpdate.IsZero() {
		return nil, errors.New("the list has no nextUpdate (RFC 5280 5.1.2.5)")
	}
	for _, x := range rl.Extensions {
		switch {
		case x.Id.Equal(oidIssuingDistPoint):
			if rest, err := asn1.Unmarshal(x.Value, &list.scope); err != nil || len(rest) > 0 {
				return nil, errors.New("the list's issuing distribution point is malformed")
			}
		case x.Id.Equal(oidDeltaCRL):
			return nil, errors.New("this is a delta list; a complete one is needed")
		case x.Critical:
			return nil, fmt.Errorf("the list has critical extension %s, which is not known here", x.Id)
		}
	}
	if s := list.scope; s.Indirect || s.OnlyAttributes || s.OnlySomeReasons.BitLength > 0 {
		return nil, errors.New("the list is indirect, or for attribute certificates or some reasons only; a complete one of the issuer is needed")
	}
	for _, e := range rl.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Id.Equal(oidCertificateIssuer) || x.Critical && !x.Id.Equal(oidReasonCode) && !x.Id.Equal(oidInvalidityDate) {
				return nil, fmt.Errorf("an entry of the list has extension %s, which is not accepted", x.Id)
			}
		}
		list.revoked[string(e.SerialNumber.Bytes())] = revocation{e.RevocationTime, e.ReasonCode}
	}
	return list, nil
}

var (
	oidReasonCode     = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate = asn1.ObjectIdentifier{2, 5, 29, 24}
)

// excludes says why a list does not cover a certificate whose distribution
// points are urls; empty when it does (RFC 5280 6.3.3 (b)).
func (l *crlList) excludes(cert *x509.Certificate, urls []string) string {
	if l.scope.OnlyUserCerts && cert.IsCA {
		return "the list covers no certificates of CAs"
	}
	if l.scope.OnlyCACerts && !cert.IsCA {
		return "the list covers certificates of CAs only"
	}
	const tagURI = 6
	var names []string
	for _, n := range l.scope.Name.FullName {
		if n.Class == asn1.ClassContextSpecific && n.Tag == tagURI {
			if slices.Contains(cert.CRLDistributionPoints, string(n.Bytes)) {
				return ""
			}
			names = append(names, string(n.Bytes))
		}
	}
	if len(names) > 0 || len(l.scope.Name.RelativeName) > 0 {
		return fmt.Sprintf("the list is for distribution point %q only, and the certificate names %q", names, urls)
	}
	return ""
}

// olderThan compares by CRL number, and by time for lists without.
func (l *crlList) olderThan(other *crlList) bool {
	if l.number != nil && other.number != nil {
		return l.number.Cmp(other.number) < 0
	}
	return l.thisUpdate.Before(other.thisUpdate)
}
