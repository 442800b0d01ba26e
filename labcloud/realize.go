package labcloud

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// realize does what creating or replacing a resource means beyond keeping its
// body, and sets the read-only properties. It may change body.
func (s *Server) realize(d *definition, r *resource, body map[string]any, created bool, work *func() *armError) *armError {
	switch d.kind {
	case "microsoft.managedidentity/userassignedidentities":
		if created {
			p := &principal{ID: newGUID(), AppID: newGUID(), Tenant: strings.ToLower(d.sub.Tenant), Name: d.name, Type: "ManagedIdentity", Lag: s.lag()}
			s.st.Principals[p.ID] = p
			r.Extra = map[string]any{"principalId": p.ID, "clientId": p.AppID, "tenantId": p.Tenant}
		}
	case "microsoft.network/publicipaddresses":
		return s.realizeAddress(d, r, body)
	case "microsoft.network/loadbalancers":
		for _, collection := range []string{"frontendIPConfigurations", "backendAddressPools", "probes", "loadBalancingRules", "inboundNatRules", "outboundRules"} {
			for _, e := range list(body, "properties", collection) {
				object(e)["id"] = d.id + "/" + collection + "/" + text(e, "name")
			}
		}
	case "microsoft.network/virtualnetworks", "microsoft.network/networksecuritygroups":
		for _, collection := range []string{"subnets", "securityRules"} {
			for _, e := range list(body, "properties", collection) {
				object(e)["id"] = d.id + "/" + collection + "/" + text(e, "name")
			}
		}
	case "microsoft.storage/storageaccounts":
		return s.realizeAccount(d, r, created)
	case "microsoft.storage/storageaccounts/blobservices/containers":
		account, _, _ := strings.Cut(d.name, "/")
		s.st.Accounts[strings.ToLower(account)].container(d.name[strings.LastIndex(d.name, "/")+1:], s.cfg.Now())
	case "microsoft.keyvault/vaults":
		return s.realizeVault(d, r, body, created)
	case "microsoft.keyvault/vaults/accesspolicies":
		return s.realizePolicies(d)
	case "microsoft.keyvault/vaults/secrets":
		vault, name, _ := strings.Cut(d.name, "/")
		if created || s.st.Vaults[strings.ToLower(vault)].current(name) != text(body, "properties", "value") {
			s.st.Vaults[strings.ToLower(vault)].set(name, text(body, "properties", "value"), text(body, "properties", "contentType"), nil, nil, s.cfg.Now())
		}
	case "microsoft.authorization/roleassignments":
		return s.realizeRole(d, r, body, created)
	case "microsoft.compute/virtualmachinescalesets":
		return s.realizeScaleSet(d, r, body, created, work)
	}
	return nil
}

func (s *Server) realizeAddress(d *definition, r *resource, body map[string]any) *armError {
	label, place := text(body, "properties", "dnsSettings", "domainNameLabel"), text(d.body, "location")
	version := func(b map[string]any) string { return strings.ToLower(text(b, "properties", "publicIPAddressVersion")) }
	if label != "" {
		fqdn := label + "." + place + "." + s.hosts.CloudApp
		taken := s.fault("nameTaken", label) != nil
		for _, o := range s.ofType(r.Type) {
			// The addresses of one service may share a label when they are of
			// both versions.
			if o.key() != r.key() && o.Location == place && strings.EqualFold(text(o.Body, "properties", "dnsSettings", "domainNameLabel"), label) && (o.Group != d.group.Name || (version(o.Body) == "ipv6") == (version(body) == "ipv6")) {
				taken = true
			}
		}
		if taken {
			return armErrorf(http.StatusBadRequest, "DnsRecordInUse", "DNS record %s is already used by another public IP.", fqdn)
		}
		object(body, "properties", "dnsSettings")["fqdn"] = fqdn
	}
	if r.Extra["ipAddress"] == nil {
		n := s.st.Created + 1
		r.Extra["ipAddress"] = fmt.Sprintf("203.0.113.%d", n%254+1)
		if version(body) == "ipv6" {
			r.Extra["ipAddress"] = fmt.Sprintf("2001:db8::%x", n)
		}
		r.Extra["resourceGuid"] = newGUID()
	}
	return nil
}

func (s *Server) realizeAccount(d *definition, r *resource, created bool) *armError {
	name := strings.ToLower(d.name)
	if created {
		if s.st.Accounts[name] != nil || s.fault("nameTaken", name) != nil {
			return armErrorf(http.StatusConflict, "StorageAccountAlreadyTaken", "The storage account named %s is already taken.", d.name)
		}
		s.st.Accounts[name] = newAccount(s.cfg.Now())
	}
	a := s.st.Accounts[name]
	r.Extra = map[string]any{
		"primaryEndpoints": map[string]any{"blob": "https://" + name + "." + s.hosts.Blob + "/"},
		"primaryLocation":  text(d.body, "location"), "statusOfPrimary": "available", "creationTime": a.Created.Format(time.RFC3339Nano),
		"keyCreationTime": map[string]any{"key1": a.Keys[0].Created.Format(time.RFC3339Nano), "key2": a.Keys[1].Created.Format(time.RFC3339Nano)},
	}
	return nil
}

func (s *Server) realizeVault(d *definition, r *resource, body map[string]any, created bool) *armError {
	name := strings.ToLower(d.name)
	recover := strings.EqualFold(text(body, "properties", "createMode"), "recover")
	if created {
		old := s.st.Deleted[name]
		own := old != nil && old.Resource != nil && old.Resource.Subscription == d.sub.ID
		switch {
		case s.st.Vaults[name] != nil && old == nil || s.fault("nameTaken", name) != nil:
			return armErrorf(http.StatusConflict, "VaultAlreadyExists", "The vault name '%s' is already in use. Vault names are globally unique so it is possible that the name is already taken.", d.name)
		case old != nil && !(recover && own) || old == nil && s.fault("softDeletedVault", name) != nil:
			return armErrorf(http.StatusConflict, "ConflictError", "A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.")
		case old != nil:
			delete(s.st.Deleted, name)
			if len(list(body, "properties", "accessPolicies")) == 0 {
				object(body, "properties")["accessPolicies"] = list(old.Resource.Body, "properties", "accessPolicies")
			}
		case recover:
			return armErrorf(http.StatusNotFound, "DeletedVaultNotFound", "The specified deleted vault '%s' does not exist.", d.name)
		default:
			s.st.Vaults[name] = newVault()
		}
	}
	props := object(body, "properties")
	if get(props, "softDeleteRetentionInDays") == nil {
		set(props, "softDeleteRetentionInDays", 90)
	}
	set(props, "enableSoftDelete", true)
	r.Extra = map[string]any{"vaultUri": "https://" + name + "." + s.hosts.Vault + "/"}
	return nil
}

func (s *Server) realizePolicies(d *definition) *armError {
	vault := s.st.Resources[strings.ToLower(d.id[:strings.LastIndex(strings.ToLower(d.id), "/accesspolicies/")])]
	have := list(vault.Body, "properties", "accessPolicies")
	how := d.name[strings.LastIndex(d.name, "/")+1:]
	if how == "replace" {
		have = nil
	}
	for _, p := range list(d.body, "properties", "accessPolicies") {
		var kept []any
		for _, h := range have {
			if !strings.EqualFold(text(h, "objectId"), text(p, "objectId")) {
				kept = append(kept, h)
			}
		}
		if how != "remove" {
			kept = append(kept, p)
		}
		have = kept
	}
	set(object(vault.Body, "properties"), "accessPolicies", have)
	return nil
}

// unrealize is the other way round; what it returns waits for the end.
func (s *Server) unrealize(r *resource) (wait func()) {
	name := strings.ToLower(r.Name)
	switch strings.ToLower(r.Type) {
	case "microsoft.managedidentity/userassignedidentities":
		s.dropPrincipal(text(r.Extra, "principalId"))
	case "microsoft.storage/storageaccounts":
		if a := s.st.Accounts[name]; a != nil {
			delete(s.st.Accounts, name)
			return func() { s.dropBlobs(name) }
		}
	case "microsoft.storage/storageaccounts/blobservices/containers":
		account, _, _ := strings.Cut(name, "/")
		if a := s.st.Accounts[account]; a != nil {
			delete(a.Containers, name[strings.LastIndex(name, "/")+1:])
		}
	case "microsoft.keyvault/vaults":
		now := s.cfg.Now().UTC()
		s.st.Deleted[name] = &deletedVault{Resource: r, DeletedAt: now, PurgeAt: now.AddDate(0, 0, integer(r.Body, "properties", "softDeleteRetentionInDays"))}
	case "microsoft.compute/virtualmachinescalesets":
		var waits []func()
		for _, m := range s.machinesOf(r) {
			waits = append(waits, s.dropMachine(m))
		}
		return func() {
			for _, w := range waits {
				w()
			}
		}
	}
	return nil
}
