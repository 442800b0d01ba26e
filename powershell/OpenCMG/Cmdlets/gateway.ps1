# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.
#
# [OpenCMG.Secret()] stands on both sides of [securestring], since versions differ in
# which of a parameter's attributes they apply first, and a plain text must have
# become a SecureString before the type is checked.

function Get-CMCloudManagementGateway {
    <#
    .SYNOPSIS
    List the cloud management gateways of the site, by service-name pattern or by ID.

    .DESCRIPTION
    List the cloud management gateways of the site, by service-name pattern or by ID.

    The same on the command line: opencmg gateway list
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER Name
    Service name, or a pattern, of the gateways to return. May have wildcards.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMCloudManagementGateway -Name "FcGateway.cloudapp.net"

    By service name.

    .OUTPUTS
    IResultObject#SMS_AzureService

    .LINK
    docs/reference/gateway.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByName')]
    [OutputType('IResultObject#SMS_AzureService')]
    param(
        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'SearchByName')]
        [string] $Name,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Reads
    }
}

function New-CMCloudManagementGateway {
    <#
    .SYNOPSIS
    Deploy a new cloud management gateway to Azure and record it in the site.

    .DESCRIPTION
    Deploy a new cloud management gateway to Azure and record it in the site.

    The same on the command line: opencmg gateway create
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER CARootCert
    Trusted CA certificates to add: hashtable of certificate file path to CertificateStore value (RootCA or IntermediateCA).

    .PARAMETER CheckClientCertRevocation
    Whether the gateway checks client certificates against a CRL (the CRL must be published on the internet).

    .PARAMETER Description
    Free text.

    .PARAMETER EnableCloudDPFunction
    Whether the gateway also serves content from Azure storage.

    .PARAMETER EnableStorageQuota
    Whether the storage alert threshold is on.

    .PARAMETER EnableTrafficOut
    Whether the 14-day outbound-transfer threshold and alerts are on.

    .PARAMETER EnforceProtocol
    Whether the gateway insists on TLS 1.2.

    .PARAMETER EnvironmentSetting
    Azure cloud to deploy to. One of AzurePublicCloud, AzureUSGovernmentCloud, or any newer one.

    .PARAMETER Force
    Do not ask for confirmation, and do not warn when the certificate carries several DNS names.

    .PARAMETER GroupName
    Azure resource group name.

    .PARAMETER IsUsingExistingGroup
    Whether the resource group already exists.

    .PARAMETER Region
    Azure region of the deployment. One of EastUS, SouthCentralUS, WestEurope, SoutheastAsia, WestUS2, WestCentralUS, or any newer one.

    .PARAMETER ServerAppClientId
    Client ID of the server app; selects the unattended (no sign-in) way of deploying.

    .PARAMETER ServiceCertPassword
    Password of the PFX in ServiceCertPath. A SecureString, or a plain text.

    .PARAMETER ServiceCertPath
    Path of the PFX with the gateway's server-authentication certificate.

    .PARAMETER ServiceName
    Service name. Left out: the certificate's first DNS name. Needed when the certificate has several DNS names and another one is wanted.

    .PARAMETER StorageCriticalPct
    Percent of the storage threshold that raises a critical alert.

    .PARAMETER StorageQuotaGB
    Storage alert threshold in GB.

    .PARAMETER StorageWarningPct
    Percent of the storage threshold that raises a warning alert.

    .PARAMETER SubscriptionId
    Azure subscription to deploy into, a GUID.

    .PARAMETER TenantId
    Entra tenant to deploy with, a GUID.

    .PARAMETER TrafficCriticalPct
    Percent of the outbound-transfer threshold that raises a critical alert. Default: 90.

    .PARAMETER TrafficOutGB
    Outbound-transfer threshold in GB (14-day).

    .PARAMETER TrafficOutStopService
    Whether the service stops itself when the critical transfer threshold is passed.

    .PARAMETER TrafficWarningPct
    Percent of the outbound-transfer threshold that raises a warning alert. Default: 50.

    .PARAMETER VMInstanceCount
    Number of VM instances.

    .PARAMETER VMSSVMSize
    VM size for a scale-set deployment.

    .PARAMETER Version
    Deployment version selector for a scale-set deployment.

    .PARAMETER AcmeAcceptTerms
    Agree to the terms of service of the certification authority. (an addition of OpenCMG)

    .PARAMETER AcmeChallenge
    How the authority checks the name. Left out: tls-alpn-01. One of tls-alpn-01, http-01. (an addition of OpenCMG)

    .PARAMETER AcmeContact
    Addresses that the authority may write to, such as mailto:ops@example.com. (an addition of OpenCMG)

    .PARAMETER AcmeDirectory
    Obtain and renew the server authentication certificate at the authority with this ACME directory, instead of uploading one. (an addition of OpenCMG)

    .PARAMETER DeploymentName
    Prefix of the deployment name. Left out: the first label of the service name. (an addition of OpenCMG)

    .PARAMETER IPv6
    Give the gateway an IPv6 address too. (an addition of OpenCMG)

    .PARAMETER MinTls
    The oldest TLS version that clients may use. One of 1.2, 1.3. (an addition of OpenCMG)

    .PARAMETER SelfHosted
    The gateway runs on hosts of your own instead of in Azure; they join with a token of opencmg join-token new. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .PARAMETER Wait
    Wait for the end of the operation that this begins, and show how far it is. Without it the cmdlet returns when the operation has begun. (an addition of OpenCMG)

    .EXAMPLE
    $path = "d:\certs\FcRoot.cer"
    $store = [Microsoft.ConfigurationManagement.AdminConsole.AzureServices.CertificateStore]::RootCA
    $cas = @{$path = $store}
    $pfxPassword = 'Ex@mple-pass1' | ConvertTo-SecureString -AsPlainText -Force
    New-CMCloudManagementGateway -ServiceCertPath "d:\certs\FcGateway.pfx" -EnvironmentSetting AzurePublicCloud -SubscriptionId "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4" -ServiceCertPassword $pfxPassword -ServiceName "FcGateway.CloudApp.Net" -Description "West Europe gateway" -Region WestEurope -VMInstanceCount 2 -CARootCert $cas -CheckClientCertRevocation $False -EnforceProtocol $True -IsUsingExistingGroup $true -GroupName "fc-gateway-rg"

    Existing resource group, one trusted root.

    .EXAMPLE
    New-CMCloudManagementGateway -ServiceCertPath "d:\certs\FcGateway.pfx" -EnvironmentSetting AzurePublicCloud -SubscriptionId "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4" -ServiceCertPassword $pfxPassword -ServiceName "FcGateway.CloudApp.Net" -Description "West Europe gateway" -Region WestEurope -VMInstanceCount 2 -CARootCert $cas -CheckClientCertRevocation $False -EnforceProtocol $True -GroupName "fc-gateway-rg" -EnableCloudDPFunction $true -EnableTrafficOut $true -TrafficOutStopService $true -TrafficOutGB 8000 -TrafficWarningPct 60 -TrafficCriticalPct 95 -EnableStorageQuota $true -StorageQuotaGB 1500 -StorageWarningPct 60 -StorageCriticalPct 95 -Force

    With content and both alert thresholds, no warnings ($pfxPassword and $cas as above).

    .EXAMPLE
    New-CMCloudManagementGateway -ServiceName "gw.fourthcoffee.com" -AcmeDirectory "https://acme-v02.api.letsencrypt.org/directory" -AcmeContact "mailto:ops@fourthcoffee.com" -AcmeAcceptTerms -Region WestEurope -VMInstanceCount 2 -SubscriptionId "9a41c7d2-0b63-4f18-8e2d-57c3a1f0b6e4" -Wait

    With a certificate from an ACME authority, which renews itself.

    .EXAMPLE
    New-CMCloudManagementGateway -SelfHosted -ServiceName "gw.fourthcoffee.com"

    On hosts of your own.

    .OUTPUTS
    IResultObject#SMS_AzureService

    .NOTES
    It returns when the deployment has begun, as documented. In PowerShell -Wait waits for its end; by noun and verb the command line always waits, unless --no-wait is there.
    There is no default parameter set: -ServerAppClientId selects Non-Interactive, -AcmeDirectory and -SelfHosted our own two.
    -Region and the environment take values that the reference page does not list, as Azure has new regions every year.

    .LINK
    docs/reference/gateway.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_AzureService')]
    param(
        [Parameter()]
        [Alias('CARootCertification', 'CARootCertifications')]
        [hashtable] $CARootCert,

        [Parameter()]
        [Alias('VerifyClientCertificateRevocation')]
        [bool] $CheckClientCertRevocation,

        [Parameter()]
        [string] $Description,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [bool] $EnableCloudDPFunction,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [bool] $EnableStorageQuota,

        [Parameter()]
        [bool] $EnableTrafficOut,

        [Parameter()]
        [bool] $EnforceProtocol,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [Alias('AzureEnvironmentOption')]
        [ArgumentCompleter({
            param($commandName, $parameterName, $wordToComplete)
            @('AzurePublicCloud', 'AzureUSGovernmentCloud', 'AzureLab') -like "$wordToComplete*"
        })]
        [string] $EnvironmentSetting,

        [Parameter()]
        [switch] $Force,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive', Mandatory = $true)]
        [Parameter(ParameterSetName = 'Acme')]
        [string] $GroupName,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [bool] $IsUsingExistingGroup,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [ArgumentCompleter({
            param($commandName, $parameterName, $wordToComplete)
            @('EastUS', 'SouthCentralUS', 'WestEurope', 'SoutheastAsia', 'WestUS2', 'WestCentralUS', 'EastAsia', 'NorthCentralUS', 'NorthEurope', 'WestUS', 'USGovernmentIowa', 'USGovernmentVirginia', 'USGovernmentArizona', 'USGovernmentTexas', 'USDoDCentral', 'USDoDEast', 'AustraliaEast', 'AustraliaSoutheast', 'BrazilSouth', 'CanadaCentral', 'CanadaEast', 'CentralIndia', 'CentralUS', 'EastUS2', 'JapanEast', 'JapanWest', 'SouthIndia', 'UKSouth', 'UKWest', 'WestIndia', 'FranceSouth', 'FranceCentral', 'KoreaSouth', 'KoreaCentral', 'AustraliaCentral', 'AustraliaCentral2', 'SouthAfricaNorth', 'SouthAfricaWest', 'WestUS3', 'GermanyWestCentral', 'SwedenCentral', 'SwitzerlandNorth', 'NorwayEast', 'PolandCentral', 'ItalyNorth', 'SpainCentral') -like "$wordToComplete*"
        })]
        [string] $Region,

        [Parameter(ParameterSetName = 'Non-Interactive', Mandatory = $true)]
        [Parameter(ParameterSetName = 'Acme')]
        [Alias('ServerApplicationClientId')]
        [string] $ServerAppClientId,

        [Parameter(ParameterSetName = 'Interactive', Mandatory = $true)]
        [Parameter(ParameterSetName = 'Non-Interactive', Mandatory = $true)]
        [Alias('ServiceCertificatePassword')]
        [OpenCMG.Secret()]
        [securestring]
        [OpenCMG.Secret()]
        $ServiceCertPassword,

        [Parameter(ParameterSetName = 'Interactive', Mandatory = $true)]
        [Parameter(ParameterSetName = 'Non-Interactive', Mandatory = $true)]
        [Alias('ServiceCertificatePath')]
        [string] $ServiceCertPath,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme', Mandatory = $true)]
        [Parameter(ParameterSetName = 'SelfHosted', Mandatory = $true)]
        [string] $ServiceName,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [Alias('StorageCriticalPercent')]
        [int] $StorageCriticalPct,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [int] $StorageQuotaGB,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [Alias('StorageWarningPercent')]
        [int] $StorageWarningPct,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive', Mandatory = $true)]
        [Parameter(ParameterSetName = 'Acme')]
        [string] $SubscriptionId,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [string] $TenantId,

        [Parameter()]
        [Alias('TrafficCriticalPercent')]
        [int] $TrafficCriticalPct,

        [Parameter()]
        [int] $TrafficOutGB,

        [Parameter()]
        [bool] $TrafficOutStopService,

        [Parameter()]
        [Alias('TrafficWarningPercent')]
        [int] $TrafficWarningPct,

        [Parameter()]
        [int] $VMInstanceCount,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [string] $VMSSVMSize,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [string] $Version,

        [Parameter(ParameterSetName = 'Acme')]
        [switch] $AcmeAcceptTerms,

        [Parameter(ParameterSetName = 'Acme')]
        [ValidateSet('tls-alpn-01', 'http-01')]
        [string] $AcmeChallenge,

        [Parameter(ParameterSetName = 'Acme')]
        [string[]] $AcmeContact,

        [Parameter(ParameterSetName = 'Acme', Mandatory = $true)]
        [uri] $AcmeDirectory,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [string] $DeploymentName,

        [Parameter(ParameterSetName = 'Interactive')]
        [Parameter(ParameterSetName = 'Non-Interactive')]
        [Parameter(ParameterSetName = 'Acme')]
        [switch] $IPv6,

        [Parameter()]
        [ValidateSet('1.2', '1.3')]
        [string] $MinTls,

        [Parameter(ParameterSetName = 'SelfHosted', Mandatory = $true)]
        [switch] $SelfHosted,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling,

        [Parameter()]
        [switch] $Wait
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Path @('CARootCert', 'ServiceCertPath')
    }
}

function Remove-CMCloudManagementGateway {
    <#
    .SYNOPSIS
    Delete a cloud management gateway.

    .DESCRIPTION
    Delete a cloud management gateway.

    The same on the command line: opencmg gateway remove
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Force
    Do not ask for confirmation.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER Name
    Name of the object to act on.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .PARAMETER Wait
    Wait for the end of the operation that this begins, and show how far it is. Without it the cmdlet returns when the operation has begun. (an addition of OpenCMG)

    .EXAMPLE
    Get-CMCloudManagementGateway -Name "FcGateway.cloudapp.net" | Remove-CMCloudManagementGateway

    Through the pipeline.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    Nothing.

    .NOTES
    It asks before it deletes, unless -Force or -Confirm:$false is there.

    .LINK
    docs/reference/gateway.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByValueMandatory', SupportsShouldProcess = $true, ConfirmImpact = 'High')]
    param(
        [Parameter()]
        [switch] $Force,

        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'SearchByValueMandatory', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SearchByNameMandatory', Mandatory = $true)]
        [string] $Name,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling,

        [Parameter()]
        [switch] $Wait
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Set-CMCloudManagementGateway {
    <#
    .SYNOPSIS
    Change an existing gateway: description, scale, server certificate, trusted CAs, TLS and CRL options, content option, alert thresholds.

    .DESCRIPTION
    Change an existing gateway: description, scale, server certificate, trusted CAs, TLS and CRL options, content option, alert thresholds.

    The same on the command line: opencmg gateway set
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER CARootCert
    Trusted CA certificates to add: hashtable of certificate file path to CertificateStore value (RootCA or IntermediateCA).

    .PARAMETER CheckClientCertRevocation
    Whether the gateway checks client certificates against a CRL (the CRL must be published on the internet).

    .PARAMETER Description
    Free text.

    .PARAMETER EnableCloudDPFunction
    Whether the gateway also serves content from Azure storage.

    .PARAMETER EnableStorageQuota
    Whether the storage alert threshold is on.

    .PARAMETER EnableTrafficOut
    Whether the 14-day outbound-transfer threshold and alerts are on.

    .PARAMETER EnforceProtocol
    Whether the gateway insists on TLS 1.2.

    .PARAMETER Force
    Do not ask for confirmation, and do not warn when the certificate carries several DNS names.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER Name
    Name of the object to act on.

    .PARAMETER PassThru
    Emit the changed object; without it the cmdlet may emit nothing.

    .PARAMETER RemoveCertThumbprints
    Thumbprints of root or intermediate CA certificates to remove.

    .PARAMETER ServiceCertPassword
    Password of the PFX in ServiceCertPath. A SecureString, or a plain text.

    .PARAMETER ServiceCertPath
    Path of the PFX that replaces the gateway's server-authentication certificate.

    .PARAMETER StorageCriticalPct
    Percent of the storage threshold that raises a critical alert.

    .PARAMETER StorageQuotaGB
    Storage alert threshold in GB.

    .PARAMETER StorageWarningPct
    Percent of the storage threshold that raises a warning alert.

    .PARAMETER TrafficCriticalPct
    Percent of the outbound-transfer threshold that raises a critical alert. Default: 90.

    .PARAMETER TrafficOutGB
    Outbound-transfer threshold in GB (14-day).

    .PARAMETER TrafficOutStopService
    Whether the service stops itself when the critical transfer threshold is passed.

    .PARAMETER TrafficWarningPct
    Percent of the outbound-transfer threshold that raises a warning alert. Default: 50.

    .PARAMETER VMInstanceCount
    Number of VM instances.

    .PARAMETER MinTls
    The oldest TLS version that clients may use. One of 1.2, 1.3. (an addition of OpenCMG)

    .PARAMETER VMSSVMSize
    Another VM size: Lab (B2s), Standard (A2_v2) or Large (A4_v2). The instances are replaced one after the other. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .PARAMETER Wait
    Wait for the end of the operation that this begins, and show how far it is. Without it the cmdlet returns when the operation has begun. (an addition of OpenCMG)

    .EXAMPLE
    Set-CMCloudManagementGateway -Name "FcGateway" -EnableTrafficOut $true -TrafficOutGB 8000 -TrafficWarningPct 60 -TrafficCriticalPct 95 -EnableStorageQuota $true -StorageQuotaGB 1500 -StorageWarningPct 60 -StorageCriticalPct 95

    Alert thresholds.

    .EXAMPLE
    Set-CMCloudManagementGateway -Name "FcGateway" -VMInstancesCount 3

    Scale (by the old parameter name, an alias).

    .EXAMPLE
    Set-CMCloudManagementGateway -Name "FcGateway" -EnableCloudDPFunction $true

    Serve content.

    .EXAMPLE
    $root = "certs\FcRoot.cer"
    $rootStore = [Microsoft.ConfigurationManagement.AdminConsole.AzureServices.CertificateStore]::RootCA
    $sub = "certs\FcIssuing.cer"
    $subStore = [Microsoft.ConfigurationManagement.AdminConsole.AzureServices.CertificateStore]::IntermediateCA
    $cas = @{$root = $rootStore; $sub = $subStore}
    Set-CMCloudManagementGateway -Name "FcGateway" -CARootCert $cas

    Add a root and an intermediate CA.

    .EXAMPLE
    Set-CMCloudManagementGateway -Name "FcGateway" -ServiceCertPath "d:\certs\FcGateway2.pfx" -ServiceCertPassword (ConvertTo-SecureString -String "Ex@mple-pass2" -AsPlainText -Force)

    Renew the server certificate.

    .EXAMPLE
    Set-CMCloudManagementGateway -Name "FcGateway" -RemoveCertThumbprints "0F1E2D3C4B5A69788796A5B4C3D2E1F001234567"

    Remove a CA.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    With -PassThru the object; else nothing.

    .LINK
    docs/reference/gateway.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SetByValue', SupportsShouldProcess = $true)]
    param(
        [Parameter()]
        [Alias('CARootCertificate', 'CARootCertificates')]
        [hashtable] $CARootCert,

        [Parameter()]
        [bool] $CheckClientCertRevocation,

        [Parameter()]
        [string] $Description,

        [Parameter()]
        [bool] $EnableCloudDPFunction,

        [Parameter()]
        [bool] $EnableStorageQuota,

        [Parameter()]
        [bool] $EnableTrafficOut,

        [Parameter()]
        [bool] $EnforceProtocol,

        [Parameter()]
        [switch] $Force,

        [Parameter(ParameterSetName = 'SetById', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'SetByValue', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SetByName', Mandatory = $true)]
        [string] $Name,

        [Parameter()]
        [switch] $PassThru,

        [Parameter()]
        [string[]] $RemoveCertThumbprints,

        [Parameter()]
        [Alias('ServiceCertificatePassword')]
        [OpenCMG.Secret()]
        [securestring]
        [OpenCMG.Secret()]
        $ServiceCertPassword,

        [Parameter()]
        [Alias('ServiceCertificatePath')]
        [string] $ServiceCertPath,

        [Parameter()]
        [Alias('StorageCriticalPercent')]
        [int] $StorageCriticalPct,

        [Parameter()]
        [int] $StorageQuotaGB,

        [Parameter()]
        [Alias('StorageWarningPercent')]
        [int] $StorageWarningPct,

        [Parameter()]
        [int] $TrafficCriticalPct,

        [Parameter()]
        [int] $TrafficOutGB,

        [Parameter()]
        [Alias('StopTrafficOutService')]
        [bool] $TrafficOutStopService,

        [Parameter()]
        [int] $TrafficWarningPct,

        [Parameter()]
        [Alias('VMInstancesCount')]
        [int] $VMInstanceCount,

        [Parameter()]
        [ValidateSet('1.2', '1.3')]
        [string] $MinTls,

        [Parameter()]
        [string] $VMSSVMSize,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling,

        [Parameter()]
        [switch] $Wait
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Path @('CARootCert', 'ServiceCertPath')
    }
}

function Start-CMCloudManagementGateway {
    <#
    .SYNOPSIS
    Start a stopped gateway.

    .DESCRIPTION
    Start a stopped gateway.

    The same on the command line: opencmg gateway start
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER Name
    Name of the object to act on.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .PARAMETER Wait
    Wait for the end of the operation that this begins, and show how far it is. Without it the cmdlet returns when the operation has begun. (an addition of OpenCMG)

    .EXAMPLE
    Get-CMCloudManagementGateway -Name "FcGateway.cloudapp.net" | Start-CMCloudManagementGateway

    Through the pipeline.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    Nothing.

    .LINK
    docs/reference/gateway.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByValueMandatory', SupportsShouldProcess = $true)]
    param(
        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'SearchByValueMandatory', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SearchByNameMandatory', Mandatory = $true)]
        [string] $Name,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling,

        [Parameter()]
        [switch] $Wait
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Stop-CMCloudManagementGateway {
    <#
    .SYNOPSIS
    Stop a running gateway (clients on the internet lose contact; Azure cost does not end).

    .DESCRIPTION
    Stop a running gateway (clients on the internet lose contact; Azure cost does not end).

    The same on the command line: opencmg gateway stop
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER Name
    Name of the object to act on.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .PARAMETER Wait
    Wait for the end of the operation that this begins, and show how far it is. Without it the cmdlet returns when the operation has begun. (an addition of OpenCMG)

    .EXAMPLE
    Get-CMCloudManagementGateway -Name "FcGateway.cloudapp.net" | Stop-CMCloudManagementGateway

    Through the pipeline.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    Nothing.

    .LINK
    docs/reference/gateway.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByValueMandatory', SupportsShouldProcess = $true)]
    param(
        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'SearchByValueMandatory', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SearchByNameMandatory', Mandatory = $true)]
        [string] $Name,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling,

        [Parameter()]
        [switch] $Wait
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Sync-CMCloudManagementGateway {
    <#
    .SYNOPSIS
    Push the site's current gateway configuration to the deployed service.

    .DESCRIPTION
    Push the site's current gateway configuration to the deployed service.

    The same on the command line: opencmg gateway sync
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER Name
    Name of the object to act on.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .PARAMETER Wait
    Wait for the end of the operation that this begins, and show how far it is. Without it the cmdlet returns when the operation has begun. (an addition of OpenCMG)

    .EXAMPLE
    Sync-CMCloudManagementGateway -Name "FcGateway.cloudapp.net"

    By name.

    .EXAMPLE
    $gw = Get-CMCloudManagementGateway -Name "FcGateway.cloudapp.net"
    $gw | Sync-CMCloudManagementGateway

    A stored object through the pipeline.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    Nothing.

    .LINK
    docs/reference/gateway.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByValueMandatory', SupportsShouldProcess = $true)]
    param(
        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'SearchByValueMandatory', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SearchByNameMandatory', Mandatory = $true)]
        [string] $Name,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling,

        [Parameter()]
        [switch] $Wait
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}
