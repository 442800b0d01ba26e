package site

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/adminservice"
	"github.com/opencmg/opencmg/pki"
	"github.com/opencmg/opencmg/sitedb"
)

// gatewayRecord is a gateway of the site. Its server certificate with the key
// is a secret of the database, named by gatewaySecret.
type gatewayRecord struct {
	GUID           string                       `json:"guid"` // tag of its cloud resources
	Prefix         string                       `json:"prefix"`
	ServiceName    string                       `json:"serviceName"`
	DeploymentName string                       `json:"deploymentName"`
	Model          string                       `json:"model"`
	Environment    opencmg.Environment          `json:"environment,omitempty"`
	TenantID       string                       `json:"tenantId,omitempty"`
	SubscriptionID string                       `json:"subscriptionId,omitempty"`
	ServerAppID    string                       `json:"serverAppId,omitempty"`
	Region         string                       `json:"region,omitempty"`
	ResourceGroup  string                       `json:"resourceGroup,omitempty"`
	CreateGroup    bool                         `json:"createGroup,omitempty"`
	GroupIsOurs    bool                         `json:"groupIsOurs,omitempty"` // we made it, so we may delete it
	Settings       adminservice.GatewaySettings `json:"settings"`

	State      string              `json:"state"`
	Error      string              `json:"error,omitempty"`
	CloudError *opencmg.CloudError `json:"cloudError,omitempty"`
	Operation  string              `json:"operation,omitempty"` // under way, or the last that failed

	CertificateSubject string             `json:"certificateSubject"`
	CertificateLeaf    string             `json:"certificateLeaf"` // PEM
	Thumbprint         string             `json:"thumbprint"`      // SHA-256
	ThumbprintSHA1     string             `json:"thumbprintSha1"`
	CertificateEnds    time.Time          `json:"certificateEnds"`
	ACME               *adminservice.ACME `json:"acme,omitempty"`
	Renewal            renewalRecord      `json:"renewal,omitzero"` // by ACME

	// What the cloud made.
	Principal string          `json:"principal,omitempty"` // object ID of the server app's principal
	Addresses []string        `json:"addresses,omitempty"`
	Machines  []machineRecord `json:"machines,omitempty"`

	Storage storageRecord `json:"storage,omitzero"`
}

// machineRecord is a machine with the instance number that it was given.
type machineRecord struct {
	ID     string `json:"id"`
	Number int    `json:"number"`
	Port   int    `json:"port,omitempty"`   // public port of its tunnels
	Power  string `json:"power,omitempty"`  // as last seen
	Health string `json:"health,omitempty"` // as last seen
	// Stale is set from before an upgrade gives the machine the newest model
	// until it serves from a fresh disk: the cloud alone does not tell that an
	// upgrade was cut off in between.
	Stale bool `json:"stale,omitempty"`
	// Where tunnels to a self-hosted instance are dialled: the ID is the
	// thumbprint of its key.
	Address    string `json:"address,omitempty"` // without port
	TunnelPort int    `json:"tunnelPort,omitempty"`
	HTTPSPort  int    `json:"httpsPort,omitempty"`
}

func gatewaySecret(id string) string { return "gateway/" + id + "/certificate" }

// busy reports whether the cloud service manager works on the gateway.
func (g *gatewayRecord) busy() bool {
	switch g.State {
	case adminservice.StateReady, adminservice.StateStopped, adminservice.StateError:
		return false
	}
	return true
}

// deployment is what the cloud is asked for. CustomData is filled in by the
// step that needs it.
func (g *gatewayRecord) deployment() *opencmg.Deployment {
	return &opencmg.Deployment{
		GatewayID: g.GUID, Environment: g.Environment, TenantID: g.TenantID, SubscriptionID: g.SubscriptionID,
		ResourceGroup: g.ResourceGroup, CreateGroup: g.CreateGroup, Region: g.Region, Name: g.Prefix, ServiceName: g.ServiceName,
		Size: g.Settings.Size, Instances: g.Settings.Instances, IPv6: g.Settings.IPv6, EnforceTLS12: *g.Settings.EnforceTLS12,
		ServerPrincipal: g.Principal,
	}
}

func (s *Server) gateway(r *record[gatewayRecord]) adminservice.Gateway {
	v := r.Value
	g := adminservice.Gateway{
		GatewaySettings: v.Settings, ID: r.ID, Version: r.Version, Name: v.Prefix, ServiceName: v.ServiceName, DeploymentName: v.DeploymentName,
		Model: v.Model, Environment: v.Environment, TenantID: v.TenantID, SubscriptionID: v.SubscriptionID, ServerAppID: v.ServerAppID,
		Region: v.Region, ResourceGroup: v.ResourceGroup, Created: r.Created, State: v.State, Error: v.Error, CloudError: v.CloudError, OperationID: v.Operation, Actions: gatewayActions(r),
		CertificateSubject: v.CertificateSubject, CertificateThumbprint: v.Thumbprint, CertificateEnds: v.CertificateEnds, ACME: v.ACME,
		CertificateTemporary: v.Renewal.Temporary, CertificateRenewal: v.Renewal.Next, ACMEProblem: v.Renewal.Problem,
		Configuration: s.publisher.version(r.ID), Addresses: v.Addresses, StorageKeysRotated: v.Storage.KeysRotated,
	}
	for _, m := range v.Machines {
		i := adminservice.Instance{Number: m.Number, Machine: m.ID, Address: m.Address, Power: m.Power, Health: m.Health}
		i.Status, i.Connected = s.live.instance(v.Prefix, m.Number, s.cfg.Now())
		if rate, ok := s.live.rate(v.Prefix, m.Number); ok {
			i.CPUPercent, i.RequestsPerSecond = &rate.cpu, &rate.requests
		}
		g.Machines = append(g.Machines, i)
	}
	return g
}

func (s *Server) listGateways(w http.ResponseWriter, r *http.Request) error {
	return answerRecords(s, w, r, kindGateway, func(rec *record[gatewayRecord]) (adminservice.Gateway, error) {
		g := s.gateway(rec)
		return g, s.usage(r.Context(), &g)
	})
}

func (s *Server) getGateway(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	q, err := adminservice.ParseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	g := s.gateway(rec)
	if err := s.usage(r.Context(), &g); err != nil {
		return err
	}
	if len(q.Select) > 0 {
		objects, err := toMaps([]adminservice.Gateway{g})
		if err != nil {
			return err
		}
		return answerOne(w, http.StatusOK, rec.Version, q.Project(objects)[0])
	}
	return answerOne(w, http.StatusOK, rec.Version, g)
}

// isGateway reports whether the key is one of the gateway's names or its ID.
func isGateway(rec *record[gatewayRecord], key string) bool {
	return rec.ID == key || sameName(rec.Value.Prefix, key) || sameName(rec.Value.ServiceName, key) || sameName(rec.Value.DeploymentName, key)
}

// findGateway finds a gateway by its ID, name, service name or deployment name.
func (s *Server) findGateway(ctx context.Context, key string) (*record[gatewayRecord], error) {
	records, err := readAll[gatewayRecord](ctx, s.db, kindGateway)
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		if isGateway(rec, key) {
			return rec, nil
		}
	}
	var names []string
	for _, rec := range records {
		names = append(names, rec.Name)
	}
	has := "the site has none yet"
	if len(names) > 0 {
		has = "the site has " + strings.Join(names, ", ")
	}
	return nil, opencmg.Errorf(opencmg.NotFound, "there is no gateway %q: %s", key, has)
}

// Defaults of the thresholds, in GB (cmg-behaviour A1, A2).
const (
	defaultTrafficGB = 10_000
	defaultStorageGB = 2_000
)

// classicDomains are those of classic deployments (azure.md 1).
var classicDomains = map[opencmg.Environment]string{
	opencmg.AzurePublicCloud: ".cloudapp.net", opencmg.AzureUSGovernmentCloud: ".usgovcloudapp.net", opencmg.AzureLab: ".cloudapp.lab.opencmg.example",
}

func (s *Server) createGateway(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.NewGateway
	if err := decodeBody(r, &in); err != nil {
		return err
	}
	if err := s.needFeature(r.Context(), adminservice.FeatureGateway); err != nil {
		return err
	}
	v, pfx, err := s.planGateway(r.Context(), &in)
	if err != nil {
		return err
	}
	rec := &record[gatewayRecord]{Name: v.Prefix, Value: v}
	insert := func(tx *sitedb.Tx) error {
		others, err := all[gatewayRecord](tx, kindGateway)
		if err != nil {
			return err
		}
		for _, o := range others {
			if sameName(o.Value.ServiceName, v.ServiceName) {
				return opencmg.Errorf(opencmg.Conflict, "gateway %s has the service name %s already: choose another one, or change that gateway", o.Name, v.ServiceName).About("certificate.serviceName")
			}
		}
		if err := knownCertificates(tx, &v.Settings); err != nil {
			return err
		}
		n, err := tx.NextNumber("azure-service-id")
		if err != nil {
			return err
		}
		rec.ID = strconv.FormatInt(firstServiceID+n, 10)
		if err := rec.put(tx, kindGateway); err != nil {
			if e, ok := errors.AsType[*opencmg.Error](err); ok && e.Field == "name" {
				return e.About(fieldDeploymentName) // which the gateway is called by
			}
			return err
		}
		if len(pfx) > 0 {
			if err := tx.PutSecret(gatewaySecret(rec.ID), pfx); err != nil {
				return err
			}
		}
		if err := putBinding(tx, rec.ID, in.Certificate.ACME); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgCreated, kindGateway, rec.ID, "created gateway %s (%s, %d instances of size %s)", v.ServiceName, v.Model, v.Settings.Instances, v.Settings.Size)
	}
	if v.State == adminservice.StateReady { // there is nothing to deploy
		if err := s.db.Change(r.Context(), "create gateway", insert); err != nil {
			return err
		}
		return answerOne(w, http.StatusCreated, rec.Version, s.gateway(rec))
	}
	op, err := s.manager.begin(r.Context(), opCreate, kindGateway, "", func(tx *sitedb.Tx, op *sitedb.Operation) error {
		rec.Value.Operation = op.ID
		if err := insert(tx); err != nil {
			return err
		}
		op.SubjectID = rec.ID
		return nil
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

// firstServiceID makes AzureServiceIDs look like those of Configuration
// Manager, which scripts take for numbers of eight digits.
const firstServiceID = 16777216

// cloudOf signs in to a gateway's cloud as its server app.
func (s *Server) cloudOf(ctx context.Context, v *gatewayRecord) (Cloud, error) {
	app, err := read[applicationRecord](ctx, s.db, kindApplication, v.ServerAppID)
	if err != nil {
		return nil, err
	}
	in, err := s.signInAs(ctx, app, v.SubscriptionID)
	if err != nil {
		return nil, err
	}
	return s.cfg.Cloud(in)
}

func (s *Server) changeGateway(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.GatewayChange
	version, err := decodeChange(r, &in)
	if err != nil {
		return err
	}
	found, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	var kind string
	change := func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		before := rec.Value.Settings
		if err := applyChange(&rec.Value.Settings, &in); err != nil {
			return err
		}
		if err := checkSettings(&rec.Value.Settings); err != nil {
			return err
		}
		if err := knownCertificates(tx, &rec.Value.Settings); err != nil {
			return err
		}
		kind = ""
		if rec.Value.Model == adminservice.ModelScaleSet {
			switch after := rec.Value.Settings; {
			case after.Size != before.Size, *after.EnforceTLS12 != *before.EnforceTLS12:
				kind = opResize
			case after.Instances != before.Instances:
				kind = opScale
			}
		}
		if kind != "" && rec.Value.State != adminservice.StateReady {
			return opencmg.Errorf(opencmg.Conflict, "gateway %s is %s: size and instances can be changed when it is Ready", rec.Name, rec.Value.State)
		}
		return s.audit(r.Context(), tx, msgChanged, kindGateway, rec.ID, "changed the settings of gateway %s", rec.Value.ServiceName)
	}
	var rec *record[gatewayRecord]
	op, err := s.manager.beginIf(r.Context(), found.ID, func(tx *sitedb.Tx) (string, error) {
		if rec, err = get[gatewayRecord](tx, kindGateway, found.ID); err != nil {
			return "", err
		}
		if err := change(tx, rec); err != nil {
			return "", err
		}
		return kind, rec.put(tx, kindGateway)
	})
	if err != nil {
		return err
	}
	if op != nil {
		return accepted(w, *op)
	}
	return answerOne(w, http.StatusOK, rec.Version, s.gateway(rec))
}

// renewGatewayCertificate replaces the server certificate. Its name must stay
// the same, compared without case (cmg-behaviour G44; the original compares
// with case).
func (s *Server) renewGatewayCertificate(w http.ResponseWriter, r *http.Request) error {
	var in adminservice.ServerCertificate
	version, err := decodeChange(r, &in)
	if err != nil {
		return err
	}
	found, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := found.expect(version); err != nil {
		return err
	}
	if found.Value.Model == adminservice.ModelSelfHosted {
		return opencmg.Errorf(opencmg.Conflict, "gateway %s runs on hosts of your own, which have the certificate as a file: replace the file there, and they take it over by themselves", found.Name)
	}
	if in.ACME != nil {
		op, err := s.switchToACME(r.Context(), found, &in)
		if err != nil {
			return err
		}
		return accepted(w, op)
	}
	old, err := pki.ParseCertificates([]byte(found.Value.CertificateLeaf))
	if err != nil {
		return err
	}
	info, err := s.inspectCertificate(&in, pki.ServerCertificateOptions{
		ServiceName: found.Value.ServiceName, DeploymentName: found.Value.Prefix, Replaces: old[0],
	})
	if err != nil {
		return err
	}
	op, err := s.manager.beginOn(r.Context(), found.ID, opCertificate, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
		rec.Value.setCertificate(info)
		rec.Value.ACME, rec.Value.Renewal = nil, renewalRecord{} // whoever brings one brings the next one too
		if err := tx.DeleteSecret(bindingSecret(rec.ID)); err != nil {
			return err
		}
		if err := tx.PutSecret(gatewaySecret(rec.ID), info.pfx); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgChanged, kindGateway, rec.ID, "replaced the server certificate of gateway %s, until %s", rec.Value.ServiceName, rec.Value.CertificateEnds.Format(time.DateOnly))
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

// gatewayAction begins an operation of the kind.
func (s *Server) gatewayAction(kind string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		found, err := s.findGateway(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		op, err := s.manager.beginOn(r.Context(), found.ID, kind, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
			if kind == opObtain && rec.Value.ACME == nil {
				return opencmg.Errorf(opencmg.Conflict, "gateway %s has a certificate that somebody brought: bring the next one too, or give it an ACME authority", rec.Name)
			}
			return s.audit(r.Context(), tx, msgAsked, kindGateway, rec.ID, "asked to %s gateway %s", kind, rec.Value.ServiceName)
		})
		if err != nil {
			return err
		}
		return accepted(w, op)
	}
}

// retryGateway begins the failed operation again, at the step that failed.
func (s *Server) retryGateway(w http.ResponseWriter, r *http.Request) error {
	found, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	op, err := s.manager.retry(r.Context(), found.ID)
	if err != nil {
		return err
	}
	return accepted(w, op)
}

func (s *Server) deleteGateway(w http.ResponseWriter, r *http.Request) error {
	found, err := s.findGateway(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	op, err := s.manager.beginOn(r.Context(), found.ID, opDelete, func(tx *sitedb.Tx, rec *record[gatewayRecord]) error {
		if err := rec.expect(version); err != nil {
			return err
		}
		points, err := all[pointRecord](tx, kindPoint)
		if err != nil {
			return err
		}
		for _, p := range points {
			if p.Value.GatewayID != rec.ID {
				continue
			}
			p.Value.GatewayID = ""
			if err := p.put(tx, kindPoint); err != nil {
				return err
			}
		}
		if err := forgetInGroups(tx, rec.ID); err != nil {
			return err
		}
		return s.audit(r.Context(), tx, msgDeleted, kindGateway, rec.ID, "asked to delete gateway %s", rec.Value.ServiceName)
	})
	if err != nil {
		return err
	}
	return accepted(w, op)
}

// cloudProblem puts what the site was doing before an error of the cloud, and
// gives it a kind.
func cloudProblem(err error, doing string) error {
	if ce, ok := errors.AsType[*opencmg.CloudError](err); ok {
		return &opencmg.Error{Kind: opencmg.Conflict, Msg: doing + ": " + ce.Error(), Err: err}
	}
	return err
}
