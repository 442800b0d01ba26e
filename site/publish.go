package site

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/azure"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// A publisher turns the site's objects into the signed documents of gateways
// and connection points, whenever something changed. A document whose content
// is the same keeps its version.
type publisher struct {
	s *Server

	one sync.Mutex // publishes one at a time

	mu         sync.Mutex // guards what follows
	versions   map[string]uint64
	draining   map[string][]int                   // by gateway ID
	challenges map[string][]opencmg.ACMEChallenge // by gateway ID
}

// publishedRecord is a signed document. Digest is of its content without
// version and time.
type publishedRecord struct {
	Version uint64 `json:"version"`
	Digest  string `json:"digest"`
	JWS     string `json:"jws"`
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) error {
	changes := p.s.db.Watch(ctx)
	again := time.NewTicker(time.Minute) // signing certificates end, tokens expire
	defer again.Stop()
	for {
		if err := p.publish(ctx); err != nil && ctx.Err() == nil {
			p.s.log.Error("nothing is published: the last documents stay in force", "component", componentManager, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-again.C:
		}
	}
}

// A document is what a gateway or a connection point is to be told.
type document struct {
	kind, id string
	digest   string
	sign     func(version uint64, now time.Time) ([]byte, error)
}

// publish signs every document whose content changed, and forgets those of what
// is gone. It writes only when there is something to write, since writing is
// what wakes it.
func (p *publisher) publish(ctx context.Context) error {
	p.one.Lock()
	defer p.one.Unlock()
	blocked, err := p.s.db.BlockedTokens(ctx)
	if err != nil {
		return err
	}
	versions, same := map[string]uint64{}, true
	err = p.s.db.View(ctx, "publish", func(tx *sitedb.Tx) error {
		docs, err := p.compileAll(tx, blocked)
		if err != nil {
			return err
		}
		return p.compare(tx, docs, func(d *document, rec *record[publishedRecord]) error {
			if same = same && rec != nil && rec.Value.Digest == d.digest; same && d.kind == kindPublished {
				versions[d.id] = rec.Value.Version
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if !same {
		if err := p.s.db.Change(ctx, "publish", func(tx *sitedb.Tx) error { return p.store(tx, blocked, versions) }); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.versions = versions
	p.mu.Unlock()
	return nil
}

// store signs what changed.
func (p *publisher) store(tx *sitedb.Tx, blocked []string, versions map[string]uint64) error {
	docs, err := p.compileAll(tx, blocked)
	if err != nil {
		return err
	}
	return p.compare(tx, docs, func(d *document, rec *record[publishedRecord]) error {
		switch {
		case d.sign == nil:
			return tx.Delete(d.kind, d.id, 0)
		case rec == nil:
			rec = &record[publishedRecord]{ID: d.id, Name: d.id}
			fallthrough
		case rec.Value.Digest != d.digest:
			n, err := tx.NextNumber("published-version")
			if err != nil {
				return err
			}
			jws, err := d.sign(uint64(n), p.s.cfg.Now().UTC().Truncate(time.Second))
			if err != nil {
				return err
			}
			rec.Value = publishedRecord{Version: uint64(n), Digest: d.digest, JWS: string(jws)}
			if err := rec.put(tx, d.kind); err != nil {
				return err
			}
		}
		if d.kind == kindPublished {
			versions[d.id] = rec.Value.Version
		}
		return nil
	})
}

// compare pairs the documents that should be with those that are. A new one has
// no record; for a record of something that is gone there is a document that
// can not be signed.
func (p *publisher) compare(tx *sitedb.Tx, docs []document, f func(*document, *record[publishedRecord]) error) error {
	for _, kind := range []string{kindPublished, kindMappings} {
		stored, err := all[publishedRecord](tx, kind)
		if err != nil {
			return err
		}
		for i := range docs {
			d := &docs[i]
			if d.kind != kind {
				continue
			}
			var rec *record[publishedRecord]
			if n := slices.IndexFunc(stored, func(r *record[publishedRecord]) bool { return r.ID == d.id }); n >= 0 {
				rec = stored[n]
				stored = slices.Delete(stored, n, n+1)
			}
			if err := f(d, rec); err != nil {
				return err
			}
		}
		for _, rec := range stored {
			if err := f(&document{kind: kind, id: rec.ID}, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// compileAll is every document, without version and time.
func (p *publisher) compileAll(tx *sitedb.Tx, blocked []string) ([]document, error) {
	var docs []document
	add := func(kind, id string, content any, sign func(uint64, time.Time) ([]byte, error)) {
		sum := sha256.Sum256(mustJSON(content))
		docs = append(docs, document{kind, id, hex.EncodeToString(sum[:]), sign})
	}
	gateways, err := all[gatewayRecord](tx, kindGateway)
	if err != nil {
		return nil, err
	}
	for _, g := range gateways {
		cfg, err := p.compile(tx, g, blocked)
		if err != nil {
			return nil, fmt.Errorf("configuration of gateway %s: %w", g.Name, err)
		}
		add(kindPublished, g.ID, cfg, func(version uint64, now time.Time) ([]byte, error) {
			cfg.Version, cfg.Issued = version, now
			return pki.SignConfiguration(cfg, p.s.keys.signing)
		})
	}
	points, err := all[pointRecord](tx, kindPoint)
	if err != nil {
		return nil, err
	}
	for _, c := range points {
		m, err := p.mappings(tx, c)
		if err != nil {
			return nil, fmt.Errorf("URL mappings of connection point %s: %w", c.Name, err)
		}
		add(kindMappings, c.ID, m, func(version uint64, _ time.Time) ([]byte, error) {
			m.Version = version
			return pki.SignDocument(pki.KindURLMappings, mustJSON(m), p.s.keys.signing)
		})
	}
	return docs, nil
}

// version is that of a gateway's published configuration; 0 before the first.
func (p *publisher) version(id string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.versions[id]
}

// drain publishes which instance of a gateway is to send its clients away; -1
// is none.
func (p *publisher) drain(ctx context.Context, id string, n int) error {
	p.mu.Lock()
	if p.draining == nil {
		p.draining = map[string][]int{}
	}
	was := p.draining[id]
	if n < 0 {
		delete(p.draining, id)
	} else {
		p.draining[id] = []int{n}
	}
	same := slices.Equal(was, p.draining[id])
	p.mu.Unlock()
	if same {
		return nil
	}
	return p.publish(ctx)
}

// challenge publishes what a certification authority will look for at a gateway;
// nil takes it away. It returns the version that says so.
func (p *publisher) challenge(ctx context.Context, id string, list []opencmg.ACMEChallenge) (uint64, error) {
	p.mu.Lock()
	if p.challenges == nil {
		p.challenges = map[string][]opencmg.ACMEChallenge{}
	}
	p.challenges[id] = list
	p.mu.Unlock()
	err := p.publish(ctx)
	return p.version(id), err
}

// compile is the published configuration of a gateway, without version.
func (p *publisher) compile(tx *sitedb.Tx, g *record[gatewayRecord], blocked []string) (*opencmg.PublishedConfiguration, error) {
	v := &g.Value
	p.mu.Lock()
	draining, challenges := p.draining[g.ID], p.challenges[g.ID]
	p.mu.Unlock()
	c := &opencmg.PublishedConfiguration{
		Version: 1, // for Validate
		Gateway: v.Prefix, Site: p.s.Code(), ServiceName: v.ServiceName, Instances: max(1, v.Settings.Instances),
		ServerCertificate: v.Thumbprint, BlockedTokens: blocked, Drain: draining, Challenges: challenges,
		TLS: opencmg.TLSSettings{MinVersion: v.Settings.MinTLS},
	}
	for _, m := range v.Machines {
		c.Instances = max(c.Instances, m.Number+1)
	}
	if v.Model == adminservice.ModelSelfHosted {
		c.ServerCertificate = "" // the hosts' own affair
	}
	var err error
	if c.Roles, err = publishedRoles(tx, p.s.Code()); err != nil {
		return nil, err
	}
	points, err := all[pointRecord](tx, kindPoint)
	if err != nil {
		return nil, err
	}
	for _, cp := range points {
		if cp.Value.GatewayID == g.ID {
			c.ConnectionPoints = append(c.ConnectionPoints, opencmg.RegisteredConnectionPoint{Name: cp.Name, ConnectionID: cp.Value.ConnectionID, Site: p.s.Code()})
		}
	}
	if err := p.trust(tx, v, &c.Certificates); err != nil {
		return nil, err
	}
	c.TokenIssuers = []opencmg.TokenIssuer{p.s.keys.signer.TokenIssuer()}
	issuers, err := all[tokenIssuerRecord](tx, kindTokenIssuer)
	if err != nil {
		return nil, err
	}
	for _, i := range issuers {
		c.TokenIssuers = append(c.TokenIssuers, i.Value.TokenIssuer)
	}
	if c.Tenants, err = publishedTenants(tx); err != nil {
		return nil, err
	}
	return c, c.Validate()
}

// trust says whose certificates clients may have.
func (p *publisher) trust(tx *sitedb.Tx, v *gatewayRecord, s *opencmg.CertificateSettings) error {
	s.CheckRevocation = *v.Settings.CheckRevocation
	certs, err := all[trustedRecord](tx, kindTrusted)
	if err != nil {
		return err
	}
	for _, t := range certs {
		if len(v.Settings.Certificates) > 0 && !slices.Contains(v.Settings.Certificates, t.ID) {
			continue
		}
		if t.Value.Store == adminservice.RootCA {
			s.Roots = append(s.Roots, t.Value.Certificate)
		} else {
			s.Intermediates = append(s.Intermediates, t.Value.Certificate)
		}
		if t.Value.RevocationList != "" {
			s.RevocationLists = append(s.RevocationLists, opencmg.RevocationList{Issuer: t.Value.Thumbprint, URL: t.Value.RevocationList})
		}
	}
	blocked, err := all[blockedRecord](tx, kindBlocked)
	for _, b := range blocked {
		s.Blocked = append(s.Blocked, b.ID)
	}
	return err
}

// publishedTenants are the tenants of the site's Azure services.
func publishedTenants(tx *sitedb.Tx) ([]opencmg.Tenant, error) {
	services, err := all[azureServiceRecord](tx, kindAzureService)
	if err != nil {
		return nil, err
	}
	var list []opencmg.Tenant
	for _, svc := range services {
		t, err := get[tenantRecord](tx, kindTenant, svc.Value.TenantID)
		if err != nil {
			return nil, err
		}
		server, err := get[applicationRecord](tx, kindApplication, svc.Value.ServerAppID)
		if err != nil {
			return nil, err
		}
		client, err := get[applicationRecord](tx, kindApplication, svc.Value.ClientAppID)
		if err != nil {
			return nil, err
		}
		ends, err := azure.EndpointsOf(t.Value.Environment)
		if err != nil {
			return nil, err
		}
		pub := opencmg.Tenant{
			ID: t.ID, Name: t.Name, ClientAppID: client.Value.ClientID, ResourceURI: server.Value.IdentifierURI, Disabled: t.Value.Disabled,
			Issuers: ends.Issuers(t.ID), Authority: strings.TrimSuffix(ends.Authority, "/") + "/" + t.ID + "/v2.0",
			// Version 2 tokens name the app by its ID (azure.md 7).
			Audiences: []string{server.Value.ClientID},
		}
		if pub.ResourceURI != "" {
			pub.Audiences = append(pub.Audiences, pub.ResourceURI)
		}
		list = append(list, pub)
	}
	return list, nil
}

// mappings is the document of one connection point, without version.
func (p *publisher) mappings(tx *sitedb.Tx, c *record[pointRecord]) (*opencmg.URLMappings, error) {
	m := &opencmg.URLMappings{Mappings: []opencmg.URLMapping{}, Gateways: []opencmg.GatewayTarget{}}
	roles, err := all[roleRecord](tx, kindRole)
	if err != nil {
		return nil, err
	}
	for _, r := range roles {
		if v := r.Value; v.AllowGatewayTraffic {
			m.Mappings = append(m.Mappings, opencmg.URLMapping{
				Role: v.RoleID, Name: r.Name, Prefix: v.Prefix, Internal: v.Internal, SiteRole: v.Own, CA: v.CA, ServerName: v.ServerName,
				HostHeader: v.HostHeader, HealthPath: v.HealthPath, ClientCertificate: v.ClientCertificate, CertificateRequired: v.CertificateRequired, Identity: v.Identity,
			})
		}
	}
	if c.Value.GatewayID == "" {
		return m, nil
	}
	g, err := get[gatewayRecord](tx, kindGateway, c.Value.GatewayID)
	if err != nil {
		return nil, err
	}
	d := opencmg.GatewayTarget{Name: g.Value.Prefix, ServiceName: g.Value.ServiceName, Instances: tunnelAddresses(&g.Value)}
	if d.Joins, err = expectedHosts(tx, g, p.s.cfg.Now()); err != nil {
		return nil, err
	}
	if len(d.Instances)+len(d.Joins) > 0 {
		m.Gateways = append(m.Gateways, d)
	}
	return m, nil
}

// tunnelAddresses are where the gateway's instances take tunnels.
func tunnelAddresses(g *gatewayRecord) (list []opencmg.InstanceAddress) {
	for _, machine := range g.Machines {
		i := opencmg.InstanceAddress{Instance: machine.Number}
		switch {
		case machine.Address != "":
			i.TCPTLS, i.HTTPS = hostPort(machine.Address, machine.TunnelPort), hostPort(machine.Address, machine.HTTPSPort)
		case machine.Port != 0 && len(g.Machines) > 1:
			i.HTTPS = fmt.Sprintf("%s:%d", g.ServiceName, machine.Port)
		default: // one instance is reached on 443 (cmg-behaviour G11)
			i.HTTPS = g.ServiceName + ":443"
		}
		list = append(list, i)
	}
	return list
}

// offeredGateways are the gateways that clients may be told of.
func (s *Server) offeredGateways(ctx context.Context) ([]*record[gatewayRecord], error) {
	gateways, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	return slices.DeleteFunc(gateways, func(g *record[gatewayRecord]) bool {
		// Nobody trusts a temporary certificate.
		return g.Value.State == adminservice.StateProvisioning || g.Value.State == adminservice.StateDeleting || g.Value.Renewal.Temporary
	}), err
}

// toldToClients fills in what a management point tells clients.
func (s *Server) toldToClients(ctx context.Context, d *adminservice.Documents) error {
	gateways, err := s.offeredGateways(ctx)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		d.Gateways = append(d.Gateways, g.Value.ServiceName)
	}
	settings, err := read[clientSettingsRecord](ctx, s.db, kindClientSettings, defaultSettingsID)
	if err != nil {
		return err
	}
	c := clientSettings(settings)
	d.ClientSettings = &c
	d.Locations, err = s.locations(ctx)
	return err
}

// documents is what a site system is to have, and a tag that changes with it.
func (s *Server) documents(ctx context.Context, sys *system) (*adminservice.Documents, string, error) {
	d := &adminservice.Documents{RenewBefore: s.cfg.Now().UTC().Add(identityRenew).Truncate(24 * time.Hour)}
	gatewayID := sys.gatewayID
	if sys.kind == adminservice.SystemManagementPoint {
		// Any gateway's trust settings will do: they are those of the site.
		list, err := readAll[publishedRecord](ctx, s.db, kindPublished)
		if err != nil {
			return nil, "", err
		}
		if len(list) > 0 {
			gatewayID = list[0].ID
		}
		cert, key, err := pki.SplitKeyPair(s.keys.token)
		if err != nil {
			return nil, "", err
		}
		if err := s.toldToClients(ctx, d); err != nil {
			return nil, "", err
		}
		d.TokenSigning = &adminservice.TokenSigning{Certificate: string(cert), Key: string(key), HierarchyID: s.keys.site.HierarchyID}
	} else {
		doc, err := read[publishedRecord](ctx, s.db, kindMappings, sys.id)
		if err != nil && !errors.Is(err, opencmg.NotFound) {
			return nil, "", err
		}
		if err == nil {
			d.Mappings = doc.Value.JWS
		}
		if d.InstanceLogs, err = s.keepsLogs(ctx, sys); err != nil {
			return nil, "", err
		}
		if d.Probes, err = s.pointTargets(ctx, sys.gatewayID); err != nil {
			return nil, "", err
		}
	}
	if gatewayID != "" {
		doc, err := read[publishedRecord](ctx, s.db, kindPublished, gatewayID)
		if err != nil && !errors.Is(err, opencmg.NotFound) {
			return nil, "", err
		}
		if err == nil {
			d.Published = doc.Value.JWS
		}
	}
	b, err := json.Marshal(d)
	sum := sha256.Sum256(b)
	return d, `"` + hex.EncodeToString(sum[:16]) + `"`, err
}
