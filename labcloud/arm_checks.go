package labcloud

import (
	"net/http"
	"strings"
	"time"
)

// Checks at the subscription: names, quota, sizes; the operations of
// providers; deleted vaults. And what hangs below any scope: permissions, role
// assignments, metrics.

// checkCall answers /subscriptions/{sub}/providers/{ns}/...; rest is the path
// from there, in lower case.
func (s *Server) checkCall(c *armCall, ns string, rest []string) (*reply, *armError) {
	if err := s.checkVersion(c, ns+"/"+rest[0]); err != nil {
		return nil, err
	}
	if rest[0] == "locations" && len(rest) >= 3 {
		if len(rest) == 4 && rest[2] == "operations" {
			return s.operationStatus(c, rest[3])
		}
		if len(rest) == 4 && rest[2] == "operationresults" {
			return s.operationResult(c, rest[3])
		}
		place, found := s.region(rest[1])
		if !found {
			return nil, armErrorf(http.StatusBadRequest, "InvalidLocation", "The location '%s' is not valid.", rest[1])
		}
		switch ns + " " + rest[2] {
		case "microsoft.network checkdnsnameavailability":
			return s.checkDNS(c, place)
		case "microsoft.compute usages":
			return s.usages(c)
		case "microsoft.keyvault deletedvaults":
			if len(rest) >= 4 {
				return s.deletedVaultCall(c, place, rest[3:])
			}
		}
	}
	switch {
	case len(rest) == 1 && ns == "microsoft.storage" && rest[0] == "checknameavailability":
		return s.checkName(c, "Microsoft.Storage/storageAccounts", "AccountNameInvalid")
	case len(rest) == 1 && ns == "microsoft.keyvault" && rest[0] == "checknameavailability":
		return s.checkName(c, "Microsoft.KeyVault/vaults", "AccountNameInvalid")
	case len(rest) == 1 && ns == "microsoft.compute" && rest[0] == "skus":
		return s.skus(c)
	case len(rest) == 1 && ns == "microsoft.keyvault" && rest[0] == "deletedvaults":
		out := []any{}
		for _, k := range sortedKeys(s.st.Deleted) {
			if d := s.st.Deleted[k]; d.Resource.Subscription == c.sub.ID {
				out = append(out, s.showDeleted(d))
			}
		}
		return ok(map[string]any{"value": out}), nil
	}
	if kind := ns + "/" + rest[0]; len(rest) == 1 && resourceTypes[kind] != nil && c.method == http.MethodGet {
		out := []any{}
		for _, r := range s.ofType(resourceTypes[kind].name) {
			if r.Subscription == c.sub.ID {
				out = append(out, s.show(r))
			}
		}
		return ok(map[string]any{"value": out}), nil
	}
	return nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "The path '%s' is not known.", c.r.URL.Path)
}

func (s *Server) checkDNS(c *armCall, place Region) (*reply, *armError) {
	label := c.query.Get("domainNameLabel")
	if c.method != http.MethodGet {
		return nil, methodNotAllowed(c)
	}
	if !pattern(`^[a-z][a-z0-9-]{1,61}[a-z0-9]$`).MatchString(label) {
		return nil, armErrorf(http.StatusBadRequest, "InvalidDomainNameLabel", "The domain name label %s is invalid. It must conform to the following regular expression: ^[a-z][a-z0-9-]{1,61}[a-z0-9]$.", label)
	}
	free := s.fault("nameTaken", label) == nil
	for _, r := range s.ofType("Microsoft.Network/publicIPAddresses") {
		if r.Location == place.Name && strings.EqualFold(text(r.Body, "properties", "dnsSettings", "domainNameLabel"), label) {
			free = false
		}
	}
	return ok(map[string]any{"available": free}), nil
}

type nameBody struct {
	Name string `json:"name" need:"1"`
	Type string `json:"type" need:"1"`
}

func (s *Server) checkName(c *armCall, kind, invalid string) (*reply, *armError) {
	if c.method != http.MethodPost {
		return nil, methodNotAllowed(c)
	}
	m, err := s.read(c, strings.ToLower(kind)+"/checknameavailability", nameBody{})
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(text(m, "type"), kind) {
		return nil, armErrorf(http.StatusBadRequest, "InvalidType", "The type must be %s.", kind)
	}
	name := strings.ToLower(text(m, "name"))
	no := func(reason, message string) (*reply, *armError) {
		return ok(map[string]any{"nameAvailable": false, "reason": reason, "message": message}), nil
	}
	if !resourceTypes[strings.ToLower(kind)].names.MatchString(text(m, "name")) {
		return no(invalid, text(m, "name")+" is not a valid name.")
	}
	taken := s.fault("nameTaken", name) != nil
	if strings.HasSuffix(kind, "storageAccounts") {
		if taken || s.st.Accounts[name] != nil {
			return no("AlreadyExists", "The storage account named "+name+" is already taken.")
		}
	} else if taken || s.st.Vaults[name] != nil || s.fault("softDeletedVault", name) != nil {
		return no("AlreadyExists", "The name '"+name+"' is already in use. Vault names are globally unique. If you are sure that the vault name was not taken then a vault with the same name may have been recently deleted but not purged; see https://go.microsoft.com/fwlink/?linkid=2147740.")
	}
	return ok(map[string]any{"nameAvailable": true}), nil
}

func (s *Server) usages(c *armCall) (*reply, *armError) {
	out := []any{}
	add := func(name, local string, used, limit int) {
		out = append(out, map[string]any{"unit": "Count", "currentValue": used, "limit": limit, "name": map[string]any{"value": name, "localizedValue": local}})
	}
	add("cores", "Total Regional vCPUs", s.usage(c.sub, "cores", nil), s.limit(c.sub, "cores"))
	add("standardBSFamily", "Standard BS Family vCPUs", s.usage(c.sub, "standardBSFamily", nil), s.limit(c.sub, "standardBSFamily"))
	add("standardAv2Family", "Standard Av2 Family vCPUs", s.usage(c.sub, "standardAv2Family", nil), s.limit(c.sub, "standardAv2Family"))
	add("virtualMachineScaleSets", "Virtual Machine Scale Sets", len(s.ofType("Microsoft.Compute/virtualMachineScaleSets")), s.limit(c.sub, "virtualMachineScaleSets"))
	return ok(map[string]any{"value": out}), nil
}

func (s *Server) skus(c *armCall) (*reply, *armError) {
	place := ""
	if f := c.query.Get("$filter"); f != "" {
		m := pattern(`^location eq '([^']*)'$`).FindStringSubmatch(f)
		if m == nil {
			return nil, armErrorf(http.StatusBadRequest, "InvalidFilter", "The filter '%s' is not valid.", f)
		}
		place = strings.ToLower(m[1])
	}
	out := []any{}
	for _, r := range s.cfg.Regions {
		if r.Logical || r.NoScaleSets || place != "" && r.Name != place {
			continue
		}
		for _, size := range []string{"Standard_A2_v2", "Standard_A4_v2", "Standard_B2s"} {
			f := sizes[strings.ToLower(size)]
			restrictions := []any{}
			if s.fault("skuRestricted", size) != nil {
				restrictions = append(restrictions, map[string]any{"type": "Location", "values": []any{r.Name}, "reasonCode": "NotAvailableForSubscription", "restrictionInfo": map[string]any{"locations": []any{r.Name}}})
			}
			out = append(out, map[string]any{"resourceType": "virtualMachines", "name": size, "tier": "Standard", "size": strings.TrimPrefix(size, "Standard_"), "family": f.family, "locations": []any{r.Name}, "restrictions": restrictions,
				"capabilities": []any{map[string]any{"name": "vCPUs", "value": map[int]string{2: "2", 4: "4"}[f.cores]}, map[string]any{"name": "HyperVGenerations", "value": "V1"}}})
		}
	}
	return ok(map[string]any{"value": out}), nil
}

// A deletedVault is a vault that was deleted and not purged.
type deletedVault struct {
	Resource           *resource
	DeletedAt, PurgeAt time.Time
	Purging            string // operation ID
}

func (s *Server) showDeleted(d *deletedVault) map[string]any {
	r := d.Resource
	return map[string]any{"id": "/subscriptions/" + r.Subscription + "/providers/Microsoft.KeyVault/locations/" + r.Location + "/deletedVaults/" + r.Name, "name": r.Name, "type": "Microsoft.KeyVault/deletedVaults",
		"properties": map[string]any{"vaultId": r.ID, "location": r.Location, "tags": get(r.Body, "tags"), "deletionDate": d.DeletedAt.Format(time.RFC3339), "scheduledPurgeDate": d.PurgeAt.Format(time.RFC3339), "purgeProtectionEnabled": truth(r.Body, "properties", "enablePurgeProtection")}}
}

func (s *Server) deletedVaultCall(c *armCall, place Region, rest []string) (*reply, *armError) {
	name := rest[0]
	d := s.st.Deleted[name]
	if d == nil || d.Resource.Location != place.Name || d.Resource.Subscription != c.sub.ID {
		return nil, armErrorf(http.StatusNotFound, "DeletedVaultNotFound", "The specified deleted vault '%s' does not exist.", name)
	}
	switch {
	case len(rest) == 1 && c.method == http.MethodGet:
		return ok(s.showDeleted(d)), nil
	case len(rest) == 2 && rest[1] == "purge" && c.method == http.MethodPost:
		if truth(d.Resource.Body, "properties", "enablePurgeProtection") {
			return nil, armErrorf(http.StatusBadRequest, "DeletedVaultPurge", "Purge protection is enabled for vault '%s'.", name)
		}
		o := s.begin(c, "")
		o.Result = map[string]any{"status": "Succeeded"}
		delete(s.st.Deleted, name)
		delete(s.st.Vaults, name)
		s.done(o, nil)
		return s.accepted(c, o, http.StatusAccepted, nil, asyncStyle{provider: "Microsoft.KeyVault", location: place.Name, result: true}), nil
	}
	return nil, methodNotAllowed(c)
}

// extensionCall answers Microsoft.Authorization and Microsoft.Insights below
// any scope; at is the index of "providers".
func (s *Server) extensionCall(c *armCall, at int) (*reply, *armError) {
	scope := "/subscriptions/" + c.sub.ID
	if at > 0 {
		scope += "/" + strings.Join(c.seg[:at], "/")
		if s.st.Groups[strings.ToLower(scope)] == nil && s.st.Resources[strings.ToLower(scope)] == nil {
			return nil, armErrorf(http.StatusNotFound, "ResourceNotFound", "The scope '%s' was not found.", scope)
		}
	}
	rest := c.low[at+2:]
	kind := c.low[at+1] + "/" + rest[0]
	if err := s.checkVersion(c, kind); err != nil {
		return nil, err
	}
	switch kind {
	case "microsoft.authorization/permissions":
		return ok(map[string]any{"value": s.permissions(c.caller, c.sub, scope)}), nil
	case "microsoft.insights/metrics":
		return s.metrics(c, scope)
	case "microsoft.authorization/roleassignments":
		return s.roleAssignmentCall(c, scope, rest)
	}
	return nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "The resource type '%s' could not be found.", kind)
}
