package main

import "github.com/opencmg/opencmg/adminservice/cmdlet"

// cmdletNotes are what is worth knowing about single cmdlets, and where they are
// not as documented.
var cmdletNotes = map[string][]string{
	"Import-CMAADServerApplication": {
		"The documented example gives the secret as a plain text although its type is SecureString. Both are taken.",
		"The site asks Entra whether the secret works, unless -SkipVerify is there.",
	},
	"Import-CMAADClientApplication": {
		"There is no default parameter set: -ServerApp or -TenantId decides.",
	},
	"Set-CMCloudManagementAzureService": {
		"-EnableAADGroupSync $true is refused: a site has no collections that could be synchronised to groups.",
	},
	"New-CMAADServerApplication": {
		"The sign-in is by device code: the cmdlet shows an address and a code, and goes on when somebody has signed in there. With -SignInClientId and -SignInSecret an app signs in instead.",
	},
	"New-CMAADClientApplication": {
		"The sign-in is by device code, as with New-CMAADServerApplication.",
	},
	"Set-UpdateServerApplication": {
		"Its reference page names neither -WhatIf nor -Confirm. Both are there.",
	},
	"Get-CMAADTenant": {
		"Its reference page describes -WhatIf and -Confirm. They are taken, and do nothing, since nothing is changed.",
	},
	"New-CMSchedule": {
		"Schedules are objects here: -ScheduleString is refused.",
	},
	"New-CMCloudManagementGateway": {
		"It returns when the deployment has begun, as documented. In PowerShell -Wait waits for its end; by noun and verb the command line always waits, unless --no-wait is there.",
		"There is no default parameter set: -ServerAppClientId selects Non-Interactive, -AcmeDirectory and -SelfHosted our own two.",
		"-Region and the environment take values that the reference page does not list, as Azure has new regions every year.",
	},
	"Remove-CMCloudManagementGateway": {
		"It asks before it deletes, unless -Force or -Confirm:$false is there.",
	},
	"Remove-CMAzureService": {
		"It asks before it deletes, unless -Force or -Confirm:$false is there.",
	},
	"Remove-CMCloudManagementGatewayConnectionPoint": {
		"It asks before it removes, unless -Force or -Confirm:$false is there.",
	},
	"Add-CMCloudManagementGatewayConnectionPoint": {
		"A connection point is not pushed to the server: it joins from there. When none has joined yet, the result has a join token in its property JoinToken, good for one host; with -JoinTokenFile it is written to a new file instead.",
	},
	"Add-CMManagementPoint": {
		"A management point is not pushed to the server: it joins from there.",
		"There is no database replica for it, so the parameters of ByNameReplica and ByValueReplica are those of the other two sets, and PowerShell, which could not tell them apart, has only those.",
	},
	"Set-CMClientSetting": {
		"Its documented default parameter set is SetByName, of which nothing is documented. -Name, -CloudService and -AllowCloudDistributionPoint belong to SetCloudSettingsByName.",
	},
	"Set-CMDefaultBoundaryGroup": {
		"There is one default boundary group. Without -GroupId, -Name and -SiteCode the parameter set is Default.",
	},
	"Get-CMCertificate": {
		"Bulk registration tokens and blocked client certificates are listed. There are no certificates of boot media, distribution points and proxies, so -CertificateType finds nothing.",
	},
	"Block-CMCertificate": {
		"-Id is the ID of a bulk registration token, or the SHA-256 thumbprint of a client certificate.",
	},
}

// notes are those of one cmdlet.
func notes(c *cmdlet.Cmdlet) []string { return cmdletNotes[c.Name] }

// general are differences that concern more than one cmdlet.
var general = []string{
	"**There is no site drive.** `New-PSDrive -PSProvider CMSite` and `Set-Location ABC:` have nothing to do here. [powershell.md](powershell.md) says which lines of a script to replace.",
	"**Objects are plain objects**, not `IResultObject` of a console. They have the documented properties, `ObjectClass`, and the type name `IResultObject#<class>`; they have no methods, so `$object.Put()` and the like do not exist.",
	"**A parameter that takes an object takes a name too**: `-ServerApp FcCmgServer`.",
	"**Secrets may be plain texts or SecureStrings.** On the command line they come from a file (`--secret-key-file`), the environment (`OPENCMG_SECRET_KEY`) or a question, so that none stands among the arguments.",
	"**Regions and environments are open lists**: newer values than the documented ones are taken.",
	"**Enumerations are texts in PowerShell**, checked against the documented values. Only `CertificateStore` is a type, since scripts name it.",
	"**`-WhatIf` asks the site** what would be done to what, so it finds what does not exist and what is not allowed.",
	"**Errors are error records** with the ID `OpenCMG.<kind>` (for example `OpenCMG.NotFound`), a category, and what to do next. A piped object that fails does not keep the next one from being done, unless `-ErrorAction Stop` is there.",
	"**Additions** are marked in the tables. They never change what a documented call means.",
}

// absent are related cmdlets of Configuration Manager that are not here, and why.
var absent = []struct{ name, why string }{
	{"Set-CMCollectionCloudSync", "collections are not synchronised to Entra groups"},
	{"Set-CMDistributionPoint, Add-CMDistributionPoint", "there are no distribution points; content is served by gateways"},
	{"New-CMCoManagementPolicy, New-CMConfigurationPolicyDeployment", "there is no co-management"},
	{"Add-CMServiceConnectionPoint, Set-CMServiceConnectionPoint, Remove-CMServiceConnectionPoint", "the service connection point is part of the site server"},
	{"New-CMSiteSystemServer, Set-CMSiteSystemServer", "a site system is whatever joins the site: opencmg join-token new"},
	{"Set-CMSite", "a site has no such properties"},
	{"Import-CMCertificate", "proxies have no certificates here"},
}
