package pki

// A Refusal is the precise reason why a certificate or token is not accepted.
// It goes into logs and explanations and never to the caller, who could learn
// from it what to forge.
type Refusal struct {
	// Code is one of the Refused constants, for counting and branching.
	Code string
	// Detail names the certificate in the chain, the revocation list or the
	// claim at fault, and says what an administrator can do about it.
	Detail string
}

// Error returns the code and the detail.
func (r *Refusal) Error() string { return r.Code + ": " + r.Detail }

// Codes of refused client certificates.
const (
	RefusedNoCertificate     = "certificate-missing"
	RefusedChainTooLong      = "certificate-chain-too-long"
	RefusedBlocked           = "certificate-blocked"       // by the administrator
	RefusedExpired           = "certificate-expired"       // it or one above it
	RefusedNotYetValid       = "certificate-not-yet-valid" // it or one above it
	RefusedUsage             = "certificate-usage"         // no client authentication, or no digital signature
	RefusedUntrusted         = "certificate-untrusted"     // no path to a configured root
	RefusedTrustList         = "certificate-trust-list"    // a path, to a root that the trust list leaves out
	RefusedRevoked           = "certificate-revoked"
	RefusedRevocationUnknown = "certificate-revocation-unknown" // no usable list, and the policy is to refuse
	RefusedChain             = "certificate-chain"              // name constraints, path length and the like
)

// Codes of refused tokens.
const (
	RefusedTokenMissing        = "token-missing"
	RefusedTokenTooLarge       = "token-too-large"
	RefusedTokenMalformed      = "token-malformed"
	RefusedTokenAlgorithm      = "token-algorithm" // anything but RS256
	RefusedTokenCritical       = "token-critical-header"
	RefusedTokenIssuer         = "token-issuer" // nobody the configuration names
	RefusedTokenTenantDisabled = "token-tenant-disabled"
	RefusedTokenTenant         = "token-tenant" // the claim tid is not the issuer's tenant
	RefusedTokenSigner         = "token-signer" // the issuer is known, this key of it is not
	RefusedTokenSignature      = "token-signature"
	RefusedTokenAudience       = "token-audience"
	RefusedTokenExpired        = "token-expired"
	RefusedTokenNotYetValid    = "token-not-yet-valid"
	RefusedTokenCategory       = "token-category" // a site token of a kind we do not know
	RefusedTokenSubject        = "token-subject"  // names neither a device nor a user
	RefusedTokenBlocked        = "token-blocked"
	RefusedTokenUnbound        = "token-unbound"          // a site token without proof key
	RefusedTokenNoProof        = "token-no-proof"         // bound to a key, no certificate presented
	RefusedTokenWrongProof     = "token-wrong-proof"      // bound to another key
	RefusedTokenKeysUnknown    = "token-keys-unavailable" // the identity provider's keys can not be had
)
