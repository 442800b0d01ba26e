package cmdlet

import (
	"net/http"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
)

const (
	classCertificate = "SMS_Certificate"

	typeBulkToken = "Bulk registration token"
	typeBlocked   = "Client certificate"
)

// certificates are what the Certificates node lists: bulk registration tokens,
// and client certificates that are blocked.
func (r *run) certificates() ([]Object, error) {
	tokens, err := list[adminservice.BulkRegistrationToken](r, "BulkRegistrationTokens")
	if err != nil {
		return nil, err
	}
	var all []Object
	for _, t := range tokens {
		all = append(all, Object{ClassProperty: classCertificate, "SMSID": t.ID, "Type": typeBulkToken, "Thumbprint": "", "ValidFrom": t.Issued.Format(time.RFC3339), "ValidUntil": t.Expires.Format(time.RFC3339), "IsBlocked": t.Blocked})
	}
	blocked, err := list[adminservice.BlockedCertificate](r, "BlockedCertificates")
	for _, b := range blocked {
		all = append(all, Object{ClassProperty: classCertificate, "SMSID": b.ID, "Type": typeBlocked, "Thumbprint": b.ID, "ValidFrom": nil, "ValidUntil": nil, "IsBlocked": true})
	}
	return all, err
}

func getCertificates(r *run) error {
	// Boot media, distribution points and proxies have no certificates here.
	if r.Given("CertificateType") {
		return nil
	}
	all, err := r.certificates()
	if err != nil {
		return err
	}
	for _, o := range all {
		if !r.matcher("Id")(o.Text("SMSID")) || !r.matcher("Thumbprint")(o.Text("Thumbprint")) {
			continue
		}
		if err := r.emit(o); err != nil {
			return err
		}
	}
	return nil
}

// blockCertificate blocks, or no longer blocks, a bulk registration token by its
// GUID or a client certificate by its SHA-256 thumbprint.
func blockCertificate(block bool) func(*run) error {
	return func(r *run) error {
		id := r.Text("Id")
		for _, p := range []string{"InputObject", "Certificate"} {
			if o, ok := r.Values[p].(Object); ok {
				if err := wrongClass(r.Cmdlet.Name, o, classCertificate); err != nil {
					return err
				}
				if id = o.Text(nameProperty); id == "" {
					id = o.Text("SMSID")
				}
			}
		}
		id = strings.Trim(strings.NewReplacer(" ", "", ":", "").Replace(id), "{}")
		if !opencmg.IsGUID(id) && len(id) != 64 {
			return opencmg.Errorf(opencmg.Invalid, "%s: %q is neither the GUID of a bulk registration token nor a SHA-256 thumbprint of 64 digits: opencmg Get-CMCertificate lists the tokens", r.Cmdlet.Name, id)
		}
		if ok, err := r.should(id, false); !ok {
			return err
		}
		if err := r.block(id, block); err != nil || !r.Flag("PassThru") {
			return err
		}
		all, err := r.certificates()
		if err != nil {
			return err
		}
		for _, o := range all {
			if strings.EqualFold(o.Text("SMSID"), id) {
				return r.emit(o)
			}
		}
		return nil
	}
}

func (r *run) block(id string, block bool) error {
	c := r.host.Client
	switch {
	case opencmg.IsGUID(id) && block:
		return c.Do(r.ctx, http.MethodPost, pathID("BulkRegistrationTokens", id)+"/block", nil, nil)
	case opencmg.IsGUID(id):
		return c.Do(r.ctx, http.MethodPost, pathID("BulkRegistrationTokens", id)+"/unblock", nil, nil)
	case block:
		return c.Do(r.ctx, http.MethodPost, "BlockedCertificates", adminservice.BlockedCertificate{ID: strings.ToLower(id)}, nil)
	}
	return c.Do(r.ctx, http.MethodDelete, pathID("BlockedCertificates", strings.ToLower(id)), nil, nil)
}

func getTrustedRoots(r *run) error {
	match := r.matcher("CAServerName")
	trusted, err := list[adminservice.TrustedCertificate](r, "TrustedCertificates")
	if err != nil {
		return err
	}
	for _, t := range trusted {
		if !match(t.Subject) {
			continue
		}
		if err := r.emit(Object{ClassProperty: "SMS_TrustedRootCertificate", "Subject": t.Subject, "Thumbprint": strings.ToUpper(t.Thumbprint), "Store": t.Store, "ValidUntil": t.Ends.Format(time.RFC3339), "Certificate": t.Certificate}); err != nil {
			return err
		}
	}
	return nil
}
