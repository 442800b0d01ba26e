// Package azure deploys and operates gateways in Azure and makes the app
// registrations in Microsoft Entra ID. It is an adapter: it knows Azure's
// calls, shapes and errors, and nothing of the site's database or state
// machine.
//
// A [Client] is made for one environment, one tenant and one way to sign in.
// Its methods take a [opencmg.Deployment], the description of one gateway's
// cloud side. What a template can do is done by one incremental template
// (template.go, deploy.go); the rest (checks, scale, stop, secrets, keys,
// metrics, delete) by single calls.
//
// Every method that changes something may be called again with the same
// arguments after the caller died in the middle: it joins what still runs,
// finds what is done, and makes nothing twice. The caller remembers which
// method to call; this package remembers nothing.
//
// Failures of the cloud are [opencmg.CloudError] with the cloud's own code and
// text and with the next step for the administrator (errors.go). All HTTP goes
// through the one client in [Config], also that of the identity library.
package azure
