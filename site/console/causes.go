package console

import "strings"

// A cause is why a gateway refused a request, in words for people. The codes
// are those that gateways count by and that logs have.
type cause struct {
	Words string // what was wrong
	Do    string // what to do about it; empty: nothing
}

// causes has the codes of package gateway, and those of refused certificates and
// tokens of package pki.
var causes = map[string]cause{
	"ambiguous-credentials":    {"more than one token in a request", "Look at what the client sends: a request carries one token."},
	"bad-answer":               {"the role gave an answer that can not be understood", "Look at the role's own log."},
	"blocked":                  {"token or certificate blocked while the request waited", ""},
	"body-timeout":             {"the request's content did not arrive in time", "A slow or broken line of the client; if there are many, look for a proxy on the way."},
	"body-too-large":           {"the request was too large", "If the client may send as much, raise the limit of the role or of its endpoint."},
	"client-gone":              {"the client went away before it had its answer", ""},
	"credentials-missing":      {"neither certificate nor token was presented", "Clients need a certificate, a join to Entra, or a token. Scanners of the internet are counted here too."},
	"head-timeout":             {"the request did not arrive in time", "A slow or broken line of the client; if there are many, look for a proxy on the way."},
	"head-too-large":           {"the head of the request was too large", "Look at what the client or a proxy on the way adds."},
	"malformed":                {"not a correct HTTP request", "Often a scanner; a client that does this is broken, or a proxy on its way is."},
	"method":                   {"a method that the endpoint does not take", "Often a scanner; a client asks only what is published."},
	"no-configuration":         {"the instance has no configuration yet", "A connection point must reach it: look at the connection points."},
	"no-tunnel":                {"no connection point holds a tunnel for the role", "Look at the connection points: one must be connected and reach the role."},
	"not-processed":            {"the connection point did not take the request on", "Clients repeat it. If it goes on, look at the connection points."},
	"not-published":            {"a path that no role publishes", "Often a scanner. If clients need it, switch gateway traffic of the role on."},
	"rate-limit":               {"too many anonymous requests from one address", "Many clients behind one address are slowed down; otherwise somebody tries names."},
	"role-timeout":             {"the role did not answer in time", "Look whether the management point or update point is overloaded."},
	"role-unreachable":         {"the connection point does not reach the role", "Run the connection analyzer: it tells which name, port or certificate is at fault."},
	"shutdown":                 {"the instance was stopping", "Clients come again at another instance."},
	"stream-reset":             {"the connection point ended the request", "Its log tells why."},
	"tenant":                   {"a tenant that is not onboarded or not enabled", "If it is yours, add it in Azure Services."},
	"token-mode":               {"a kind of token that the endpoint does not take", "Look which way of authentication the client uses."},
	"too-many-requests":        {"more requests at once than the instance takes", "Scale the gateway out."},
	"tunnel-lost":              {"the tunnel was lost before the role answered", "Clients repeat it. If it goes on, look at the connection points and their line."},
	"verification-unavailable": {"the credentials could not be checked", "A revocation list or the keys of Entra can not be had: run the connection analyzer."},

	"certificate-missing":            {"no certificate was presented", "Clients without a certificate need a join to Entra, or a token."},
	"certificate-chain-too-long":     {"the chain of the certificate is too long", ""},
	"certificate-blocked":            {"the certificate is blocked", "Unblock it in Certificates and tokens if the client may come back."},
	"certificate-expired":            {"the certificate has expired", "Renew it, or the one above it; look whether the clients enrol by themselves."},
	"certificate-not-yet-valid":      {"the certificate is not valid yet", "Look at the clock of the client and of the authority."},
	"certificate-usage":              {"the certificate is not for client authentication", "Issue one with that usage."},
	"certificate-untrusted":          {"no trusted root is above the certificate", "If the authority is yours, add its root in Certificates and tokens."},
	"certificate-trust-list":         {"the root of the certificate is not on the trust list", "If the authority is yours, add its root in Certificates and tokens."},
	"certificate-revoked":            {"the certificate is revoked", "The client needs a new one."},
	"certificate-revocation-unknown": {"whether the certificate is revoked can not be known", "Its revocation list must be reachable from the gateway: see the gateway's instances."},
	"certificate-chain":              {"the chain of the certificate breaks a rule of one above it", "Look at name constraints and path lengths of the authority."},

	"token-missing":          {"no token was presented", "Clients need a token, or a certificate at another endpoint."},
	"token-too-large":        {"the token is too large", "A user in very many groups may have one: look at the app registration."},
	"token-malformed":        {"what was presented is no token", "Often a scanner."},
	"token-algorithm":        {"the token is signed in a way that is not accepted", ""},
	"token-critical-header":  {"the token demands what the gateway does not know", ""},
	"token-issuer":           {"the token is from nobody that the site knows", "Of a tenant of yours? Add it in Azure Services."},
	"token-tenant-disabled":  {"authentication is disabled for the tenant", "Enable it in Azure Services if its clients may come."},
	"token-tenant":           {"the token names another tenant than that of its issuer", ""},
	"token-signer":           {"the token is signed with a key that is not known", "Keys of Entra are renewed now and then, and read again; if it goes on, run the connection analyzer."},
	"token-signature":        {"the signature of the token is wrong", "Somebody made it up, or it was damaged on the way."},
	"token-audience":         {"the token is for another application", "Look at the client's settings: it must ask for a token of the site's server application."},
	"token-expired":          {"the token has expired", "Clients get a new one by themselves. If it goes on, look at the client's clock."},
	"token-not-yet-valid":    {"the token is not valid yet", "Look at the client's clock."},
	"token-category":         {"a token of the site of an unknown kind", ""},
	"token-subject":          {"the token names neither a device nor a user", ""},
	"token-blocked":          {"the token is blocked", "Unblock it in Certificates and tokens if the client may come back."},
	"token-unbound":          {"the token is bound to no key", ""},
	"token-no-proof":         {"the key that the token is bound to was not shown", "A proxy that opens TLS on the way takes it away."},
	"token-wrong-proof":      {"the token is bound to another key", "Somebody copied it, or the client got a new certificate: it registers again by itself."},
	"token-keys-unavailable": {"the keys of Entra can not be had", "The gateway must reach login.microsoftonline.com: run the connection analyzer."},
}

// causeOf finds the words of a code, and makes some of one that is not known.
func causeOf(code string) cause {
	if c, ok := causes[code]; ok {
		return c
	}
	return cause{Words: strings.ReplaceAll(code, "-", " ")}
}
