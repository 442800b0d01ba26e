// Package adminservice is the contract of the administration service, the
// single way into a site: its paths, the bodies of its requests and answers,
// the OData query options, and a client.
//
// Administrators, the console, the command line and the site's own systems
// (connection points, management points) all speak it. The server is in package
// site; what is here has no state and opens no database.
//
// Administrators use the resources below [BasePath]: JSON with the property
// names of the types in this package, OData v4 conventions for queries, ETags
// for changes, problem documents (RFC 9457) for errors, and operations for what
// takes time. Site systems use the paths of sitesystem.go and sign in with a
// certificate of the site CA.
package adminservice

// BasePath is the root of the versioned resources.
const BasePath = "/AdminService/v1.0/"

// WMIPath is the root of the read-only view with the documented class and
// property names (cmg-behaviour 11.5).
const WMIPath = "/AdminService/wmi/"
