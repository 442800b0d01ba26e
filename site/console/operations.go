package console

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/opencmg/opencmg/adminservice"
)

// Operations are shown where what they change is shown, and on a page of their
// own.

func operationViews() []view {
	return []view{{pattern: "operations/{id}", node: "operations", title: "Progress", template: "operation", load: func(v *Visit) (any, error) {
		return loadOperation(v, v.ID())
	}}}
}

// An operationShown is an operation for people.
type operationShown struct {
	adminservice.Operation
	// Ask is what somebody has to do now, such as to sign in with a code.
	Ask string
	// Next is the page that shows what came of it, below Path.
	Next string
}

func loadOperation(v *Visit, id string) (*operationShown, error) {
	op, err := get[adminservice.Operation](v, "Operations/"+url.PathEscape(id))
	if err != nil {
		return nil, err
	}
	return showOperation(op), nil
}

func showOperation(op adminservice.Operation) *operationShown {
	o := &operationShown{Operation: op}
	if !o.Ended() && len(op.Log) > 0 {
		// The last word of a sign-in that waits is the code to type; the first
		// one says that it begins.
		if last := op.Log[len(op.Log)-1]; last.Step == "sign-in" && !strings.HasPrefix(last.Text, "sign in to tenant ") {
			o.Ask = last.Text
		}
	}
	var made adminservice.CreatedApplications
	switch op.Kind {
	case "create-applications":
		o.Next = "azure-services"
		if json.Unmarshal(op.Result, &made) == nil && made.AzureServiceID != "" {
			o.Next += "/" + url.PathEscape(made.AzureServiceID)
		}
	case "renew-secret", "update-application", "register-providers":
		o.Next = "applications/" + url.PathEscape(op.Subject)
	case "discover":
		o.Next = "azure-services/" + url.PathEscape(op.Subject)
	default:
		o.Next = "gateways/" + url.PathEscape(op.Subject)
		if op.Kind == "delete" {
			o.Next = "gateways"
		}
	}
	return o
}

// Ended reports whether nothing will happen any more.
func (o *operationShown) Ended() bool {
	return o.State == adminservice.OperationCompleted || o.State == adminservice.OperationFailed
}

// operationNames are what people call an operation.
var operationNames = map[string]string{
	"create": "Create the gateway", "scale": "Change the number of instances", "resize": "Change the size of the instances", "stop": "Stop the service", "start": "Start the service",
	"synchronize": "Synchronize", "upgrade": "Upgrade", "convert": "Convert to a scale set", "renew-certificate": "Replace the server certificate",
	"obtain-certificate": "Obtain a server certificate", "delete": "Delete the gateway", "create-applications": "Create app registrations", "renew-secret": "Renew the secret key",
	"update-application": "Update application settings", "register-providers": "Register resource providers", "discover": "Discover users and groups",
}

// Name is what people call it.
func (o *operationShown) Name() string {
	if n, ok := operationNames[o.Kind]; ok {
		return n
	}
	return o.Kind
}

// Newest are the lines of the log, the latest first.
func (o *operationShown) Newest() []adminservice.OperationLog {
	l := slices.Clone(o.Log)
	slices.Reverse(l)
	return l
}
