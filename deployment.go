package opencmg

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An Environment names a cloud (cmg-behaviour G5).
type Environment string

// The environments. AzureLab is the stand-in on loopback that the lab runs.
const (
	AzurePublicCloud       Environment = "AzurePublicCloud"
	AzureUSGovernmentCloud Environment = "AzureUSGovernmentCloud"
	AzureLab               Environment = "AzureLab"
)

// ParseEnvironment finds an environment by name without regard to case.
func ParseEnvironment(s string) (Environment, error) {
	for _, e := range []Environment{AzurePublicCloud, AzureUSGovernmentCloud, AzureLab} {
		if strings.EqualFold(s, string(e)) {
			return e, nil
		}
	}
	return "", Errorf(Invalid, "environment %q: must be %s, %s or %s", s, AzurePublicCloud, AzureUSGovernmentCloud, AzureLab).About("environment")
}

// A VMSize is the size of a gateway's instances (cmg-behaviour G2).
type VMSize string

// The sizes that are offered.
const (
	SizeLab      VMSize = "Lab"      // B2s: rated for 10 clients
	SizeStandard VMSize = "Standard" // A2_v2: rated for 6,000
	SizeLarge    VMSize = "Large"    // A4_v2: rated for 10,000
)

// VMSizeFacts are what the console shows about a size and Azure needs of it.
type VMSizeFacts struct {
	Size    VMSize
	SKU     string // Azure's name
	Family  string // Azure's quota family
	Cores   int
	Clients int // simultaneous clients that one instance is rated for
}

// VMSizes lists the sizes, the smallest first.
func VMSizes() []VMSizeFacts {
	return []VMSizeFacts{
		{SizeLab, "Standard_B2s", "standardBSFamily", 2, 10},
		{SizeStandard, "Standard_A2_v2", "standardAv2Family", 2, 6000},
		{SizeLarge, "Standard_A4_v2", "standardAv2Family", 4, 10000},
	}
}

// ParseVMSize takes a size's name or Azure's, with or without "Standard_", in
// any case. Empty means Standard, the documented default.
func ParseVMSize(s string) (VMSize, error) {
	if s == "" {
		return SizeStandard, nil
	}
	for _, f := range VMSizes() {
		if strings.EqualFold(s, string(f.Size)) || strings.EqualFold(s, f.SKU) || strings.EqualFold("Standard_"+s, f.SKU) {
			return f.Size, nil
		}
	}
	return "", Errorf(Invalid, "VM size %q: must be Lab (B2s), Standard (A2_v2) or Large (A4_v2)", s).About("size")
}

// Facts returns what is known about the size.
func (s VMSize) Facts() VMSizeFacts {
	for _, f := range VMSizes() {
		if f.Size == s {
			return f
		}
	}
	return VMSizeFacts{Size: s}
}

// A Deployment is the cloud side of one gateway: what the cloud service
// manager asks a cloud for. All resources are named after Name and carry the
// tag [GatewayTag] with GatewayID, so that a delete touches nothing else.
type Deployment struct {
	GatewayID      string      `json:"gatewayId"` // GUID of the site's record
	Environment    Environment `json:"environment"`
	TenantID       string      `json:"tenantId"`
	SubscriptionID string      `json:"subscriptionId"`
	ResourceGroup  string      `json:"resourceGroup"`
	// CreateGroup makes the group when it is missing; otherwise it must exist.
	// Either way it must lie in Region (cmg-behaviour M7).
	CreateGroup bool `json:"createGroup"`
	// Region is Azure's name in lower case without spaces, e.g. westeurope.
	Region string `json:"region"`
	// Name is the prefix of the deployment name (cmg-behaviour G40): the DNS
	// label, and the name of scale set, key vault and storage account.
	Name        string `json:"name"`
	ServiceName string `json:"serviceName"`
	Size        VMSize `json:"size"`
	Instances   int    `json:"instances"`
	// IPv6 adds a second public address.
	IPv6 bool `json:"ipv6,omitempty"`
	// EnforceTLS12 sets the storage account's floor (G30).
	EnforceTLS12 bool `json:"enforceTls12"`
	// ServerPrincipal is the object ID of the server app's service principal,
	// which gets access to the vault's secrets.
	ServerPrincipal string `json:"serverPrincipal"`
	// CustomData is the cloud-init document of the instances. It holds no
	// secret.
	CustomData []byte `json:"customData"`
}

// GatewayTag is the tag on every cloud resource of a gateway.
const GatewayTag = "opencmg-gateway"

var deploymentNamePattern = regexp.MustCompile(`^[a-z][a-z0-9]{2,23}$`)

// ValidateDeploymentName checks the prefix of a deployment name by the strict
// form of cmg-behaviour G40, which fits DNS label, vault and storage account.
func ValidateDeploymentName(name string) error {
	if !deploymentNamePattern.MatchString(name) {
		return Errorf(Invalid, "deployment name %q: must be 3 to 24 lower-case letters and digits and begin with a letter, because the key vault and the storage account get the same name", name)
	}
	return nil
}

var groupNamePattern = regexp.MustCompile(`^[-\w.()]{1,90}$`)

// Validate checks what can be checked without a cloud.
func (d *Deployment) Validate() error {
	if err := ValidateDeploymentName(d.Name); err != nil {
		return err
	}
	switch {
	case !IsGUID(d.SubscriptionID):
		return Errorf(Invalid, "subscription %q: must be a GUID", d.SubscriptionID).About("subscriptionId")
	case !groupNamePattern.MatchString(d.ResourceGroup) || strings.HasSuffix(d.ResourceGroup, "."):
		return Errorf(Invalid, "resource group %q: must be 1 to 90 letters, digits, underscores, hyphens, dots and parentheses, and not end in a dot", d.ResourceGroup).About("resourceGroup")
	case d.Region == "" || d.Region != RegionName(d.Region):
		return Errorf(Invalid, "region %q: must be Azure's name of a region, such as westeurope", d.Region).About("region")
	case d.Size.Facts().SKU == "":
		return Errorf(Invalid, "VM size %q is not known", d.Size).About("size")
	case d.Instances < 1 || d.Instances > MaxInstances:
		return Errorf(Invalid, "instances: must be 1 to %d, is %d", MaxInstances, d.Instances).About("instances")
	}
	return nil
}

// RegionName turns "West Europe", "WestEurope" or "westeurope" into
// "westeurope".
func RegionName(s string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), " ", ""))
}

// A CloudError is a refusal or failure of the cloud, with its own code and
// text and with our next step.
type CloudError struct {
	// Code is the cloud's own, e.g. QuotaExceeded.
	Code string `json:"code"`
	// Message is the cloud's own text, unchanged.
	Message string `json:"message"`
	// Target is the resource or property that it is about.
	Target string `json:"target,omitempty"`
	// Status is the HTTP status; 0 when a long-running operation failed.
	Status int `json:"status,omitempty"`
	// RequestID is the cloud's correlation ID, for its support.
	RequestID string `json:"requestId,omitempty"`
	// NextStep says what the administrator can do.
	NextStep string `json:"nextStep,omitempty"`
	// Retryable reports that the same call may succeed later without anybody
	// doing anything. RetryAfter, if set, is when the cloud wants it.
	Retryable  bool          `json:"retryable,omitempty"`
	RetryAfter time.Duration `json:"retryAfter,omitempty"` // nanoseconds
	// Details are errors of single resources below this one.
	Details []CloudError `json:"details,omitempty"`
}

// Error gives the cloud's code and text, those of the details, and the next
// step.
func (e *CloudError) Error() string {
	var b strings.Builder
	b.WriteString(e.Code)
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	if e.Target != "" {
		fmt.Fprintf(&b, " (%s)", e.Target)
	}
	for _, d := range e.Details {
		fmt.Fprintf(&b, "; %s", d.Error())
	}
	if e.NextStep != "" {
		fmt.Fprintf(&b, ". Next: %s", e.NextStep)
	}
	return b.String()
}

// Has reports whether the error or one of its details has the code.
func (e *CloudError) Has(code string) bool {
	return strings.EqualFold(e.Code, code) || slices.ContainsFunc(e.Details, func(d CloudError) bool { return d.Has(code) })
}

// A CheckState is the outcome of a check.
type CheckState string

// The states of a check.
const (
	CheckPass CheckState = "pass"
	CheckFail CheckState = "fail"
	CheckWarn CheckState = "warn" // it works, and somebody should look at it
	CheckTodo CheckState = "todo" // somebody must do something first, or nobody could look
)

// A Check is one examined precondition, with its evidence and what to do.
type Check struct {
	ID       string     `json:"id"` // stable, e.g. region, quota, storage-name
	Name     string     `json:"name"`
	State    CheckState `json:"state"`
	Evidence string     `json:"evidence,omitempty"`
	NextStep string     `json:"nextStep,omitempty"`
}

// A Machine is one instance of a scale set as the cloud sees it.
type Machine struct {
	// ID is the cloud's instance ID within the scale set; it grows and is
	// never used again.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Power is running, starting, stopping, deallocating, deallocated or
	// stopped.
	Power string `json:"power"`
	// Provisioning is succeeded, creating, updating, deleting or failed.
	Provisioning string `json:"provisioning"`
	// Health is healthy, unhealthy or empty.
	Health string `json:"health,omitempty"`
	// LatestModel reports that it runs the scale set's newest model.
	LatestModel bool `json:"latestModel"`
	// TunnelPort is the public port whose connections end at this machine; 0:
	// none.
	TunnelPort int `json:"tunnelPort,omitempty"`
}

// A DeployedResource is one resource as deployed.
type DeployedResource struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Name string `json:"name"`
}

// Progress tells about a long act while it runs: a short constant step, such
// as "deploy", and a text for people.
type Progress func(step, text string)
