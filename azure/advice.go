package azure

import (
	"net/http"
	"strings"

	"github.com/opencmg/opencmg"
)

// advice says what an administrator does about a code. retry marks codes that
// go away alone. The first entry that an error or one of its details carries
// wins, so the specific ones come before DeploymentFailed and its like.
var advice = []struct {
	code  string
	retry bool
	next  string
}{
	// Sign-in.
	{"AADSTS7000222", false, "the app's secret has expired: renew it (or paste a new one for an imported app) and try again"},
	{"AADSTS7000215", false, "the app's secret is wrong: give the secret's value, not its ID; a secret that was made just now can take a minute to work"},
	{"AADSTS700016", false, "the app is not known in this tenant: check the client ID and the tenant ID"},
	{"AADSTS90002", false, "the tenant is not known: check the tenant ID and the environment"},
	{"AADSTS7000112", false, "the app is disabled in the tenant: enable it under Enterprise applications"},
	{"AADSTS700027", false, "the app's certificate was refused: register the certificate that this site uses with the app, or renew it if it has expired"},
	{"AADSTS700024", false, "the certificate or the federated token is outside its time: check the clock of this server and the certificate's end"},
	{"AADSTS70021", false, "no federated credential of the app fits the token: compare issuer, subject and audience with the app's federated credentials"},
	{"AADSTS700213", false, "no federated credential of the app fits the token: compare issuer, subject and audience with the app's federated credentials"},
	{"AADSTS53003", false, "conditional access refuses the app: make an exception for the server app"},
	{"AADSTS65001", false, "nobody has consented to the app: have an administrator grant consent"},
	{"AADSTS90094", false, "nobody has consented to the app: have an administrator grant consent"},
	{"AADSTS65004", true, "the sign-in was declined: start it again"},
	{"AADSTS50105", false, "the app asks for an assignment: assign the user to it under Enterprise applications, or switch off Assignment required"},
	{"AADSTS50011", false, "the app registration lacks the redirect URI: add it as one of platform Web"},
	{"AADSTS500112", false, "the app registration lacks the redirect URI: add it as one of platform Web"},
	{"AADSTS700025", false, "the redirect URI stands at the app under mobile and desktop applications: it must be one of platform Web"},
	{"AADSTS54005", true, "the code was used already: start the sign-in again"},
	{"AADSTS70008", true, "the sign-in took too long: start it again"},
	{"AADSTS501481", true, "the sign-in was begun elsewhere: start it again"},
	{"AADSTS500011", false, "the tenant does not know the service: check that the environment fits the tenant"},
	{"AADSTS900023", false, "the tenant ID is not valid: check it"},
	{"AADSTS70020", true, "the code was not entered in time: start the sign-in again"},
	{"AADSTS50076", false, "the account must use multifactor authentication: sign in with a device code, or use an app"},
	{"expired_token", true, "the code was not entered in time: start the sign-in again"},
	{"authorization_declined", false, "the sign-in was declined: start it again"},

	// Names.
	{"DnsRecordInUse", false, "the deployment name is taken in this region: choose another name, or delete the public IP address that holds it"},
	{"StorageAccountAlreadyTaken", false, "the storage account's name is taken, somewhere in the world: choose another deployment name"},
	{"StorageAccountAlreadyExists", false, "the storage account's name is taken: choose another deployment name"},
	{"StorageAccountInAnotherResourceGroup", false, "the storage account's name is taken by another resource group of this subscription: choose another deployment name"},
	{"VaultAlreadyExists", false, "the key vault's name is taken, possibly by a deleted vault that is still kept: purge or recover that vault, or choose another deployment name"},
	{"ConflictError", false, "the key vault's name is taken, possibly by a deleted vault that is still kept: purge or recover that vault, or choose another deployment name"},

	// Subscription and region.
	{"MissingSubscriptionRegistration", false, "register the resource providers in the subscription (Owner or Contributor can), then deploy again"},
	{"InvalidResourceGroupLocation", false, "the resource group exists in another region: choose that region or another group"},
	{"LocationNotAvailableForResourceType", false, "the region does not offer this resource: choose another region"},
	{"NoRegisteredProviderFound", false, "the region or API version is not offered for this resource: choose another region"},
	{"SkuNotAvailable", false, "the VM size is not offered to this subscription in this region: choose another size or region"},
	{"QuotaExceeded", false, "the subscription's quota is used up: ask for more cores under Usage + quotas in the portal, or choose fewer instances or another size"},
	{"AllocationFailed", true, "the region has no room for this size now: try again later, or choose another size or region"},
	{"OverconstrainedAllocationRequest", true, "the region has no room for this size now: try again later, or choose another size or region"},
	{"ZonalAllocationFailed", true, "the region has no room for this size now: try again later, or choose another size or region"},
	{"SubscriptionNotFound", false, "the subscription is not visible to this identity: check its ID and give the identity a role in it"},
	{"ReadOnlyDisabledSubscription", false, "the subscription is disabled and can only be read: enable it (see Cost Management + Billing)"},
	{"PublicIPCountLimitReached", false, "the subscription's quota of public IP addresses is used up: ask for more, or delete unused ones"},

	// Rights and policies.
	{"RequestDisallowedByPolicy", false, "a policy of the organisation refuses the resource: ask the owner of the policy named above for an exemption for this resource group, or choose what it allows"},
	{"LinkedAuthorizationFailed", false, "the identity lacks a right on a linked resource named above: grant it Contributor on the resource group"},
	{"AuthorizationFailed", false, "the identity lacks the right named above: grant the server app Contributor on the resource group (Owner on the subscription for the first deployment); a new role can take minutes to work"},
	{"RoleAssignmentConditionFailed", false, "a condition of the role assignment refuses this: widen it or have an Owner do this step"},
	{"ScopeLocked", false, "a lock protects the resource or its group: remove the lock and try again"},
	{"PrincipalNotFound", true, "the directory has not yet spread the new principal: try again in a few minutes"},
	{"ForbiddenByPolicy", true, "the vault's access policies do not let this identity in: wait a minute if they are new, else deploy again to repair them"},
	{"AccessDenied", true, "the vault's access policies do not let this identity in: wait a minute if they are new, else deploy again to repair them"},
	{"ForbiddenByFirewall", false, "the vault's firewall refuses this address: allow it, or open the vault's network access"},
	{"Authorization_RequestDenied", false, "the directory refuses this: sign in as Application Administrator (apps and consent) or Privileged Role Administrator (directory permissions)"},
	{"KeyBasedAuthenticationNotPermitted", false, "shared keys are switched off on the storage account, probably by a policy: allow shared key access on it"},

	// Conflicts that pass.
	{"DeploymentActive", true, "another deployment of this gateway still runs: it is waited for"},
	{"AnotherOperationInProgress", true, "another operation on the resource still runs: try again when it is done"},
	{"OperationPreempted", true, "a newer operation replaced this one: try again"},
	{"ObjectIsBeingDeleted", true, "the secret is still being deleted: try again in a minute"},
	{"ObjectIsDeletedButRecoverable", true, "the secret was deleted and is still kept: it is recovered first"},
	{"ResourceGroupBeingDeleted", true, "the resource group is being deleted: wait until it is gone, then deploy again"},
	{"StorageAccountOperationInProgress", true, "another operation on the storage account still runs: try again"},
	{"TooManyRequests", true, "Azure limits the number of calls: it is tried again later"},
	{"SubscriptionRequestsThrottled", true, "Azure limits the number of calls: it is tried again later"},
	{"RequestThrottled", true, "Azure limits the number of calls: it is tried again later"},
	{"ServerBusy", true, "Azure is busy: it is tried again later"},
	{"OperationNotAllowed", false, "Azure does not allow this now: if the text speaks of a quota, ask for more cores or choose fewer instances; otherwise wait for the operation that runs"},

	// Requests.
	{"ResourceGroupNotFound", false, "the resource group does not exist: create it, or let the site create it"},
	{"InvalidTemplateDeployment", false, "Azure refuses the template before creating anything; the reason stands above"},
	{"InvalidTemplate", false, "Azure does not accept the template: report this as a bug of OpenCMG, with the text above"},
	{"Request_ResourceNotFound", false, "the directory does not know the object (yet): check the ID; a new object can take a minute to appear"},
	{"Request_MultipleObjectsWithSameKeyValue", false, "another app already has this App ID URI: choose another, or import that app"},
	{"DeploymentFailed", false, "see the resources named above; correct the cause and deploy again, which repairs what is there, or delete"},
	{"ResourceDeploymentFailure", false, "see the resources named above; correct the cause and deploy again, which repairs what is there, or delete"},
	{CodeUnreachable, true, "check this server's network, proxy, CA file and connect-to rules, and that the environment is the right one"},
	{CodeSignIn, false, "check the tenant ID, the environment, this server's network and how it signs in"},
}

// advise fills NextStep and Retryable of an error from the table.
func advise(ce *opencmg.CloudError) {
	for i := range ce.Details {
		adviseRetry(&ce.Details[i])
	}
	for _, a := range advice {
		if ce.Has(a.code) {
			if ce.NextStep == "" {
				ce.NextStep = a.next
			}
			// A quota refusal can look like a conflict that passes.
			ce.Retryable = ce.Retryable || a.retry
			break
		}
	}
	if strings.Contains(strings.ToLower(ce.Message), "quota") && ce.Has("OperationNotAllowed") {
		ce.NextStep = "the subscription's quota is used up: ask for more cores under Usage + quotas in the portal, or choose fewer instances or another size"
	}
	if ce.NextStep != "" {
		return
	}
	switch ce.Status {
	case http.StatusUnauthorized:
		ce.NextStep = "the token was refused: check tenant, environment and the clock of this server"
	case http.StatusForbidden:
		ce.NextStep = "the identity lacks a right or a policy refuses it: read the text above, and grant the server app Contributor on the resource group"
	case http.StatusTooManyRequests:
		ce.NextStep = "Azure limits the number of calls: it is tried again later"
	case http.StatusConflict:
		ce.NextStep = "the resource is in a state that does not allow this: wait for what runs, then try again"
	case http.StatusNotFound:
		ce.NextStep = "the resource does not exist: deploy again to repair the gateway"
	default:
		if ce.Retryable {
			ce.NextStep = "Azure could not answer: it is tried again later"
		} else {
			ce.NextStep = "correct the cause named above and try again"
		}
	}
}

func adviseRetry(ce *opencmg.CloudError) {
	for i := range ce.Details {
		adviseRetry(&ce.Details[i])
	}
	for _, a := range advice {
		if strings.EqualFold(a.code, ce.Code) {
			ce.Retryable = ce.Retryable || a.retry
			return
		}
	}
}
