// Package opencmg holds the nouns of a cloud management gateway and their
// rules. It does no I/O and imports nothing else of this module, so every
// other package can share its words.
//
// A map of the system, following one client request:
//
//   - [github.com/opencmg/opencmg/gateway] is the edge. It finds out who is
//     calling (edge.go) and which published endpoint and tunnel serve the call
//     (forward.go).
//   - [github.com/opencmg/opencmg/tunnel] carries the request as frames on a
//     stream (stream.go) of a TLS connection that the private side opened.
//   - [github.com/opencmg/opencmg/connpoint] maps the external URL to the
//     internal one and calls the role (forward.go).
//   - [github.com/opencmg/opencmg/mp] is the management point that answers
//     (mp.go).
//
// Behind them stands the site, in the order in which it deploys a gateway:
//
//   - [github.com/opencmg/opencmg/adminservice] is what administrators, and the
//     systems of a site, say to it and hear from it.
//   - [github.com/opencmg/opencmg/site] is the site server: it keeps what was
//     asked for (gateways.go), goes the steps of a deployment (steps.go), and
//     publishes what gateways and connection points must know (publish.go).
//   - [github.com/opencmg/opencmg/azure] speaks with Resource Manager, Graph and
//     Key Vault, and
//   - [github.com/opencmg/opencmg/labcloud] stands in for them on loopback, with
//     machines that are processes.
//
// Around them: pki (certificates and tokens), ccm (the Configuration Manager
// client's messages, shared by mp and client), client (the agent on a device),
// sitedb (the database of a site), and cmd/opencmg, which wires everything into
// one binary.
package opencmg
