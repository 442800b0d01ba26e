// Package pki holds everything about certificates and tokens: the site's own
// certificate authority, the gateway's server certificate, the checks of client
// certificates and bearer tokens, site tokens, the signatures on published
// documents, and the mutual TLS between the parts of a site.
//
// Its nouns are
//
//   - [Authority], a certificate authority with its revocation list;
//   - [ServerCertificate], the certificate clients see, reloaded as its file changes;
//   - [ClientVerifier] with [CRLCache], which accept or refuse client certificates;
//   - [TokenSigner], which makes site tokens;
//   - [TokenVerifier] with [JWKSCache], which accept or refuse tokens.
//
// A verifier answers with a [*Refusal]: a code for counting and a detail that
// names the certificate, list or claim at fault. Both are for logs and for
// explaining a refusal to an administrator, never for the caller.
//
// Verifiers are made from one published configuration and never change. When
// the configuration changes, make new ones: their caches go with the old ones,
// so that a block takes effect at once. The caches of lists and keys outlive
// them and have a Run method that refreshes in the background.
//
// The package opens no listener and calls nobody but the revocation list
// servers and the identity provider it is told about.
package pki
