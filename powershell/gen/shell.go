package main

import (
	"slices"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// examplesOf are the documented examples of a cmdlet and ours.
func examplesOf(c *cmdlet.Cmdlet) []cmdlet.Example {
	return slices.Concat(c.Examples, moreExamples[c.Name])
}

// moreExamples are for cmdlets whose documentation has none that is of use here.
var moreExamples = map[string][]cmdlet.Example{
	"New-CMSchedule": {
		{Title: "Every two days, for the discovery of users", Lines: []string{`$schedule = New-CMSchedule -RecurInterval Days -RecurCount 2`, `Set-CMCloudManagementAzureService -Name "Fourth Coffee" -UserDiscoverySchedule $schedule`}},
	},
	"New-CMCloudManagementGateway": {
		{Title: "With a certificate from an ACME authority, which renews itself", Lines: []string{`New-CMCloudManagementGateway -ServiceName "gw.fourthcoffee.com" -AcmeDirectory "https://acme-v02.api.letsencrypt.org/directory" -AcmeContact "mailto:ops@fourthcoffee.com" -AcmeAcceptTerms -Region WestEurope -VMInstanceCount 2 -SubscriptionId "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4" -Wait`}},
		{Title: "On hosts of your own", Lines: []string{`New-CMCloudManagementGateway -SelfHosted -ServiceName "gw.fourthcoffee.com"`}},
	},
	"Add-CMManagementPoint": {
		{Title: "Install one that lets CMG traffic through", Lines: []string{`Add-CMManagementPoint -SiteSystemServerName "mp01.fourthcoffee.com" -CommunicationType Https -EnableCloudGateway`}},
	},
	"Set-CMSoftwareUpdatePoint": {
		{Title: "Let CMG traffic through", Lines: []string{`Set-CMSoftwareUpdatePoint -SiteSystemServerName "sup01.fourthcoffee.com" -EnableCloudGateway $true`}},
	},
	"Add-CMSoftwareUpdatePoint": {
		{Title: "Record one that lets CMG traffic through", Lines: []string{`Add-CMSoftwareUpdatePoint -SiteSystemServerName "sup01.fourthcoffee.com" -WsusSsl $true -EnableCloudGateway`}},
	},
	"Set-CMClientSettingCloudService": {
		{Title: "Let every client use gateways", Lines: []string{`Set-CMClientSettingCloudService -DefaultSetting -AllowCloudManagementGateway $true`}},
	},
	"Get-CMClientSetting": {
		{Title: "The settings for cloud services", Lines: []string{`Get-CMClientSetting -Setting Cloud`}},
	},
	"Set-CMClientSetting": {
		{Title: "Allow content from cloud sources", Lines: []string{`Set-CMClientSetting -Name "Home workers" -CloudService -AllowCloudDistributionPoint $true`}},
	},
	"New-CMBoundaryGroup": {
		{Title: "A group that is offered a gateway", Lines: []string{`New-CMBoundaryGroup -Name "Home workers" -Boundary "10.8.0.0/16" -AddSiteSystemServerName "fcgateway.cloudapp.net"`}},
	},
	"Get-CMBoundaryGroupSiteSystem": {
		{Title: "Of one group", Lines: []string{`Get-CMBoundaryGroupSiteSystem -GroupName "Home workers"`}},
	},
	"Get-CMServiceConnectionPoint": {
		{Title: "All", Lines: []string{`Get-CMServiceConnectionPoint`}},
	},
	"Get-CMSiteSystemServer": {
		{Title: "By a pattern", Lines: []string{`Get-CMSiteSystemServer -SiteSystemServerName "*.fourthcoffee.com"`}},
	},
	"Get-CMSiteRole": {
		{Title: "Connection points", Lines: []string{`Get-CMSiteRole -RoleName "SMS Cloud Proxy Connector"`}},
	},
	"Get-CMCertificate": {
		{Title: "All", Lines: []string{`Get-CMCertificate`}},
	},
	"Block-CMCertificate": {
		{Title: "A bulk registration token, by its ID", Lines: []string{`Block-CMCertificate -Id "c9d5b7f0-38a1-4c62-9e0f-5b1d27a8e346"`}},
	},
	"Unblock-CMCertificate": {
		{Title: "The same token", Lines: []string{`Get-CMCertificate -Id "c9d5b7f0-38a1-4c62-9e0f-5b1d27a8e346" | Unblock-CMCertificate`}},
	},
	"Get-CMTrustedRootCertificate": {
		{Title: "All", Lines: []string{`Get-CMTrustedRootCertificate`}},
	},
}

// shellForms are the examples as a shell takes them, in their order. A test binds
// each of them.
var shellForms = map[string][][]string{
	"Import-CMAADServerApplication": {
		{`opencmg application import-server --tenant-name 'Fourth Coffee' --tenant-id 3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210 --app-name FcCmgServer --client-id b85d0f3a-62c1-4e97-a7d4-90f1c2e3b548 --secret-key-file secret.txt --secret-key-expiry 2027-03-31`},
	},
	"Import-CMAADClientApplication": {
		{`opencmg application import-client --tenant-id 3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210 --app-name FcCmgClient --client-id c10e9b74-4f2d-4c86-b3a9-6d58f7a2e013`},
		{`opencmg application import-client --server-app FcCmgServer --app-name FcCmgClient --client-id c10e9b74-4f2d-4c86-b3a9-6d58f7a2e013`},
	},
	"Get-CMAADApplication": {
		{`opencmg application list --tenant-name 'Fourth Coffee' --app-type ClientApplication`},
		{`opencmg application list --tenant-id 3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210 --app-type ServerApplication`},
		{`opencmg application list --app-name FcCmgServer`},
	},
	"New-CMCloudManagementAzureService": {
		{`opencmg azure-service create --name 'Fourth Coffee' --description 'Cloud management' --server-app FcCmgServer --client-app FcCmgClient --azure-environment-option AzurePublicCloud`},
	},
	"Set-CMCloudManagementAzureService": {
		{`opencmg azure-service set --name 'Fourth Coffee' --new-name 'FC cloud management' --description 'Tenant link for the gateway'`},
	},
	"Get-CMAzureService": {
		{`opencmg azure-service list --name 'Fourth Coffee'`},
		{`opencmg azure-service list --id 3`},
	},
	"Remove-CMAzureService": {
		{`opencmg azure-service remove --name 'Fourth Coffee'`},
		{`opencmg azure-service remove --id 3 --force`},
		{`opencmg azure-service list --name 'Fourth Coffee' | opencmg azure-service remove --force`},
	},
	"Get-CMAADTenant": {
		{`opencmg tenant list`},
		{`opencmg tenant list --name 'Fourth Coffee'`},
		{`opencmg tenant list --id 3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210`},
	},
	"New-CMAADServerApplication": {
		{`opencmg application create-server --app-name FcCmgServer`},
	},
	"New-CMAADClientApplication": {
		{`opencmg application create-client --app-name FcCmgClient --input-object FcCmgServer`},
	},
	"Set-UpdateServerApplication": {
		{`opencmg application update-server --tenant-id 3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210`},
	},
	"New-CMSchedule": {
		{`opencmg azure-service set --name 'Fourth Coffee' --user-discovery-schedule "$(opencmg schedule create --recur-interval Days --recur-count 2)"`},
	},
	"Get-CMCloudManagementGateway": {
		{`opencmg gateway list --name FcGateway.cloudapp.net`},
	},
	"New-CMCloudManagementGateway": {
		{`opencmg gateway create --service-cert-path certs/FcGateway.pfx --environment-setting AzurePublicCloud --subscription-id 9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4 --service-cert-password-file password.txt --service-name FcGateway.CloudApp.Net --description 'West Europe gateway' --region WestEurope --vm-instance-count 2 --ca-root-cert certs/FcRoot.cer=RootCA --check-client-cert-revocation false --enforce-protocol true --is-using-existing-group true --group-name fc-gateway-rg`},
		{`opencmg gateway create --service-cert-path certs/FcGateway.pfx --environment-setting AzurePublicCloud --subscription-id 9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4 --service-cert-password-file password.txt --service-name FcGateway.CloudApp.Net --description 'West Europe gateway' --region WestEurope --vm-instance-count 2 --ca-root-cert certs/FcRoot.cer=RootCA --check-client-cert-revocation false --enforce-protocol true --group-name fc-gateway-rg --enable-cloud-dp-function true --enable-traffic-out true --traffic-out-stop-service true --traffic-out-gb 8000 --traffic-warning-pct 60 --traffic-critical-pct 95 --enable-storage-quota true --storage-quota-gb 1500 --storage-warning-pct 60 --storage-critical-pct 95 --force`},
		{`opencmg gateway create --service-name gw.fourthcoffee.com --acme-directory https://acme-v02.api.letsencrypt.org/directory --acme-contact mailto:ops@fourthcoffee.com --acme-accept-terms --region WestEurope --vm-instance-count 2 --subscription-id 9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4`},
		{`opencmg gateway create --self-hosted --service-name gw.fourthcoffee.com`},
	},
	"Remove-CMCloudManagementGateway": {
		{`opencmg gateway list --name FcGateway.cloudapp.net | opencmg gateway remove --force`},
	},
	"Set-CMCloudManagementGateway": {
		{`opencmg gateway set --name FcGateway --enable-traffic-out true --traffic-out-gb 8000 --traffic-warning-pct 60 --traffic-critical-pct 95 --enable-storage-quota true --storage-quota-gb 1500 --storage-warning-pct 60 --storage-critical-pct 95`},
		{`opencmg gateway set --name FcGateway --vm-instance-count 3`},
		{`opencmg gateway set --name FcGateway --enable-cloud-dp-function true`},
		{`opencmg gateway set --name FcGateway --ca-root-cert certs/FcRoot.cer=RootCA,certs/FcIssuing.cer=IntermediateCA`},
		{`opencmg gateway set --name FcGateway --service-cert-path certs/FcGateway2.pfx --service-cert-password-file password.txt`},
		{`opencmg gateway set --name FcGateway --remove-cert-thumbprints 0F1E2D3C4B5A69788796A5B4C3D2E1F001234567`},
	},
	"Start-CMCloudManagementGateway": {
		{`opencmg gateway start --name FcGateway.cloudapp.net`},
	},
	"Stop-CMCloudManagementGateway": {
		{`opencmg gateway stop --name FcGateway.cloudapp.net`},
	},
	"Sync-CMCloudManagementGateway": {
		{`opencmg gateway sync --name FcGateway.cloudapp.net`},
		{`opencmg gateway list --name FcGateway.cloudapp.net | opencmg gateway sync`},
	},
	"Add-CMCloudManagementGatewayConnectionPoint": {
		{`opencmg connection-point add --cloud-management-gateway-name FcGateway.cloudapp.net --site-system-server-name gwcp01.fourthcoffee.com --join-token-file join-token.txt`},
	},
	"Get-CMCloudManagementGatewayConnectionPoint": {
		{`opencmg site-system list gwcp01.fourthcoffee.com | opencmg connection-point list`},
	},
	"Remove-CMCloudManagementGatewayConnectionPoint": {
		{`opencmg connection-point list gwcp01.fourthcoffee.com | opencmg connection-point remove --force`},
	},
	"Set-CMCloudManagementGatewayConnectionPoint": {
		{`opencmg connection-point set gwcp01.fourthcoffee.com --cloud-management-gateway-name FcGateway2.cloudapp.net`},
	},
	"Set-CMManagementPoint": {
		{`opencmg management-point set mp01.fourthcoffee.com --enable-cloud-gateway true`},
	},
	"Add-CMManagementPoint": {
		{`opencmg management-point add --site-system-server-name mp01.fourthcoffee.com --communication-type Https --enable-cloud-gateway`},
	},
	"Set-CMSoftwareUpdatePoint": {
		{`opencmg software-update-point set sup01.fourthcoffee.com --enable-cloud-gateway true`},
	},
	"Add-CMSoftwareUpdatePoint": {
		{`opencmg software-update-point add sup01.fourthcoffee.com --wsus-ssl true --enable-cloud-gateway`},
	},
	"Set-CMClientSettingCloudService": {
		{`opencmg client-setting set --default-setting --allow-cloud-management-gateway true`},
	},
	"Get-CMClientSetting": {
		{`opencmg client-setting list --setting Cloud`},
	},
	"Set-CMClientSetting": {
		{`opencmg Set-CMClientSetting -Name 'Home workers' -CloudService -AllowCloudDistributionPoint true`},
	},
	"New-CMBoundaryGroup": {
		{`opencmg boundary-group create --name 'Home workers' --boundary 10.8.0.0/16 --add-site-system-server-name fcgateway.cloudapp.net`},
	},
	"Set-CMBoundaryGroup": {
		{`opencmg boundary-group set --name 'Home workers' --add-site-system-server-name fcgateway.cloudapp.net`},
	},
	"Get-CMBoundaryGroupSiteSystem": {
		{`opencmg boundary-group list-site-systems --group-name 'Home workers'`},
	},
	"Set-CMDefaultBoundaryGroup": {
		{`opencmg boundary-group set-default --include-cloud-based-sources true --prefer-cloud-based-sources true`},
	},
	"Get-CMServiceConnectionPoint": {
		{`opencmg service-connection-point list`},
	},
	"Get-CMSiteSystemServer": {
		{`opencmg site-system list '*.fourthcoffee.com'`},
	},
	"Get-CMSiteRole": {
		{`opencmg site-role list --role-name 'SMS Cloud Proxy Connector'`},
	},
	"Get-CMCertificate": {
		{`opencmg certificate list`},
	},
	"Block-CMCertificate": {
		{`opencmg certificate block c9d5b7f0-38a1-4c62-9e0f-5b1d27a8e346`},
	},
	"Unblock-CMCertificate": {
		{`opencmg certificate unblock --id c9d5b7f0-38a1-4c62-9e0f-5b1d27a8e346`},
	},
	"Get-CMTrustedRootCertificate": {
		{`opencmg certificate list-trusted`},
	},
}
