// Package sitelink makes a host a system of a site and keeps it in touch: a
// connection point or a management point joins once with [Join], starts from
// [LoadIdentity], and runs a [Link] beside its work.
//
// A link asks the site for documents and waits there for changes, verifies what
// comes and puts it into the identity directory, where the system's own watchers
// find it; it reports what the system and the gateways' instances do; and it
// renews the system's certificate. The system works on without it while the site
// is away.
package sitelink
