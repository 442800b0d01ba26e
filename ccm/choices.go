package ccm

import (
	"strconv"
	"time"
)

// This file is the one place for what public knowledge about the wire leaves
// open (marked [U] in wire.md). Each entry says what we chose and why.
// docs/decisions.md lists them for readers outside the code.

// Token service, wire.md 2.4: neither method nor bodies of CCM_STS are known.
// The size of a logged exchange is that of a JWT each way, and the connection
// point counts requests "with bearer token". We take GET and POST with the
// token in Authorization, no body, and answer a small JSON object like an
// OAuth 2.0 token response (RFC 6749 section 5.1), see [TokenReply].
const (
	// TokenScheme precedes every token in the Authorization field.
	TokenScheme = "Bearer"
	// CCMTokenLifetime is documented: eight hours.
	CCMTokenLifetime = 8 * time.Hour
	// ClientTokenLifetime and ClientTokenRenewal are documented: 90 days,
	// renewed monthly.
	ClientTokenLifetime = 90 * 24 * time.Hour
	ClientTokenRenewal  = 30 * 24 * time.Hour
)

// Hand-out of client tokens, wire.md 2.2: the endpoint name MP_TokenManager is
// known, its bodies are not. We answer [TokenManagerRequest] with
// [TokenManagerReply], both in the style of the neighbouring messages.
const (
	// TokenRequestIssue asks for a client token; a registered client whose
	// token is still valid asks in the same way to renew it.
	TokenRequestIssue = "ClientToken"
)

// ProofSkew is how far the time in a signed header ([ClientProof]) may lie
// from the verifier's clock. The tolerance of a real management point is
// unknown; clients with a wrong clock are common and the proof opens only
// policy of the client itself, over TLS.
const ProofSkew = time.Hour

// SecretPolicyRefusal is the body of the answer to a request for a secret
// policy without proof. Public tools look for the leading "<HTML>"; the rest
// and the status 200 are our choice (wire.md 6.2 and 13.8).
const SecretPolicyRefusal = "<HTML><HEAD><TITLE>Policy</TITLE></HEAD><BODY>This policy is given only to a client that proves its identity.</BODY></HTML>"

// ActionDelete is the Action of a policy assignment that a delta reply takes
// away. That the attribute exists is known, its values are not.
const ActionDelete = "Delete"

// Answer to the HTTP form of notification, wire.md 9.4: the framing that a
// vendor's client expects was not found. We answer LogIn with a length and
// opaque session data, as captured, and Continue with the frame of 9.2 or with
// an empty body for "nothing to deliver".

// Values of RequestType in queries to [PathNotification]. LogIn and Continue
// were captured. Test is ours: a client asks for one [TaskTest] to itself, to
// measure the round trip. The body is a [ContinueRequest] without session whose
// frame is a request frame ([Task.Frame]) of that type, signed like those of
// Continue; the answer is 200 without a body, and the task then comes down the
// client's channel with the Param of the request.
const (
	NotifyLogIn    = "LogIn"
	NotifyContinue = "Continue"
	NotifyTest     = "Test"
)

// Notification task types. 1 and 15 were seen, the others are unknown; ours
// begin at 1000 so that they never mean something else to a vendor's client.
const (
	TaskMachinePolicy     = 1    // download computer policy
	TaskRunScript         = 15   // seen; OpenCMG never sends it
	TaskHardwareInventory = 1001 // send hardware inventory
	TaskDiscovery         = 1002 // send discovery data (heartbeat)
	TaskTest              = 1003 // answer and do nothing else
)

// TaskTypes are the task types that an administrator may send, by their names in
// commands and in the administration service.
func TaskTypes() map[string]int {
	return map[string]int{
		"machine-policy": TaskMachinePolicy, "hardware-inventory": TaskHardwareInventory, "discovery": TaskDiscovery, "test": TaskTest,
	}
}

// ClientIDReplyRoot is the root of the answer of MP_ClientIdManager, whose
// name is unknown (wire.md 7.4).
const clientIDReplyRoot = "ClientIDReply"

// Bounds on received documents. Real messages are far below; the compressed
// size is bounded by the published endpoint (16 MiB for ccm_system).
const (
	maxHeaderBytes = 256 << 10 // UTF-16 header of a message
	maxParts       = 8
	maxXMLDepth    = 64
	maxCertificate = 16 << 10 // DER bytes of one certificate
	minKeyBits     = 2048
	maxKeyBits     = 8192
	// DefaultMaxText bounds the uncompressed text of a message in bytes.
	DefaultMaxText = 32 << 20
	// MaxFrame bounds the payload of one notification frame in bytes.
	MaxFrame = 64 << 10
)

// sslState is the SSLState capability and the security mode that we announce.
// Captures against a management point without TLS show 0; ours speaks TLS only,
// and 63 is what sites with TLS are commonly seen to say.
const sslState = "63"

// ReportAccepted answers a report or status message whose sender waits for an
// answer (ReplyMode Sync). Asynchronous ones get an empty 200, with which the
// vendor's library is content.
const ReportAccepted = `<ReportReply Status="0"></ReportReply>`

// HeaderRefused marks the empty 200 that means "not for you" (wire.md 3.3), so
// that the sender of an asynchronous message can tell it from "taken". Its
// value is 1; the reason is for the management point's log only. Other
// management points do not send it.
const HeaderRefused = "X-CCM-Refused"

// Settings of the default client policies. The vendor's class of general
// settings is CCM_ClientAgentConfig; which properties carry these settings is
// not public, so all names here are ours.
const (
	SettingsClass                       = "CCM_ClientAgentConfig"
	SettingUseGateway                   = "EnableCloudManagementGateway" // TRUE or FALSE
	SettingUseCloudContent              = "AllowCloudDistributionPoint"  // TRUE or FALSE
	SettingEntraJoin                    = "AutoAzureADJoin"              // TRUE or FALSE
	SettingPolicyInterval               = "PolicyRequestInterval"        // minutes
	SettingLocationInterval             = "LocationRequestInterval"      // minutes
	SettingInventoryInterval            = "HardwareInventoryInterval"    // minutes
	SettingDiscoveryInterval            = "DiscoveryInterval"            // minutes
	SettingStateInterval                = "StateMessageInterval"         // minutes
	SettingNotificationKeepAlive        = "NotificationKeepAlive"        // seconds
	SettingNotificationTCPPort          = "NotificationTCPPort"          // 0: HTTP only
	CategoryClientSettings              = "ClientSettings"
	typeBoolean, typeString, typeUint32 = "11", "8", "19"
)

// BooleanSetting, NumberSetting and StringSetting make policy properties with
// their CIM types.
func BooleanSetting(name string, v bool) PolicyProperty {
	if v {
		return PolicyProperty{name, typeBoolean, "TRUE"}
	}
	return PolicyProperty{name, typeBoolean, "FALSE"}
}

func NumberSetting(name string, v int) PolicyProperty {
	return PolicyProperty{name, typeUint32, strconv.Itoa(v)}
}

func StringSetting(name, v string) PolicyProperty { return PolicyProperty{name, typeString, v} }
