# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.
#
# [OpenCMG.Secret()] stands on both sides of [securestring], since versions differ in
# which of a parameter's attributes they apply first, and a plain text must have
# become a SecureString before the type is checked.

function Import-CMAADServerApplication {
    <#
    .SYNOPSIS
    Record in the site an existing Entra web (server) app registration, with its secret and the secret's expiry.

    .DESCRIPTION
    Record in the site an existing Entra web (server) app registration, with its secret and the secret's expiry.

    The same on the command line: opencmg application import-server
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AppIdUri
    Application ID URI of the registration, unique in the tenant; it becomes the audience of client tokens. Shape: https://ConfigMgrService.

    .PARAMETER AppName
    Friendly (display) name of the app.

    .PARAMETER AzureEnvironmentOption
    Azure cloud that holds the registration or service. One of AzurePublicCloud, AzureUSGovernmentCloud, or any newer one.

    .PARAMETER ClientId
    Application (client) ID of the registration, a GUID.

    .PARAMETER SecretKey
    Client secret of the server app. A SecureString, or a plain text.

    .PARAMETER SecretKeyExpiry
    Date on which the client secret expires.

    .PARAMETER TenantId
    Entra tenant ID, a GUID.

    .PARAMETER TenantName
    Name of the Entra tenant.

    .PARAMETER SkipVerify
    Record it without asking Entra whether the secret works. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    $expiry = [datetime]::parseexact("03/31/2027", 'MM/dd/yyyy', $null)
    Import-CMAADServerApplication -TenantName "Fourth Coffee" -TenantId "3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210" -AppName "FcCmgServer" -ClientId "b85d0f3a-62c1-4e97-a7d4-90f1c2e3b548" -SecretKey "Zq8~example.Secret" -SecretKeyExpiry $expiry

    Record a server app with a secret that expires on a given date.

    .OUTPUTS
    IResultObject#SMS_AAD_Application_Ex

    .NOTES
    The documented example gives the secret as a plain text although its type is SecureString. Both are taken.
    The site asks Entra whether the secret works, unless -SkipVerify is there.

    .LINK
    docs/reference/application.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_AAD_Application_Ex')]
    param(
        [Parameter()]
        [uri] $AppIdUri,

        [Parameter(Mandatory = $true, Position = 2)]
        [Alias('ApplicationName')]
        [string] $AppName,

        [Parameter()]
        [ArgumentCompleter({
            param($commandName, $parameterName, $wordToComplete)
            @('AzurePublicCloud', 'AzureUSGovernmentCloud', 'AzureLab') -like "$wordToComplete*"
        })]
        [string] $AzureEnvironmentOption,

        [Parameter(Mandatory = $true, Position = 3)]
        [string] $ClientId,

        [Parameter(Mandatory = $true, Position = 4)]
        [OpenCMG.Secret()]
        [securestring]
        [OpenCMG.Secret()]
        $SecretKey,

        [Parameter(Mandatory = $true, Position = 5)]
        [datetime] $SecretKeyExpiry,

        [Parameter(Mandatory = $true, Position = 1)]
        [string] $TenantId,

        [Parameter(Mandatory = $true, Position = 0)]
        [string] $TenantName,

        [Parameter()]
        [switch] $SkipVerify,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Import-CMAADClientApplication {
    <#
    .SYNOPSIS
    Record in the site an existing Entra native (client) app registration, tied to a tenant or to a server app already recorded.

    .DESCRIPTION
    Record in the site an existing Entra native (client) app registration, tied to a tenant or to a server app already recorded.

    The same on the command line: opencmg application import-client
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AppName
    Friendly (display) name of the app.

    .PARAMETER ClientId
    Application (client) ID of the registration, a GUID.

    .PARAMETER ServerApp
    Server app object, as Get-CMAADApplication or Import-CMAADServerApplication returns it.

    .PARAMETER TenantId
    Entra tenant ID, a GUID.

    .PARAMETER SkipVerify
    Record it without asking Entra. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Import-CMAADClientApplication -TenantId "3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210" -AppName "FcCmgClient" -ClientId "c10e9b74-4f2d-4c86-b3a9-6d58f7a2e013"

    By tenant.

    .EXAMPLE
    $server = Get-CMAADApplication -TenantName "Fourth Coffee" -AppType ServerApplication -AppName "FcCmgServer"
    Import-CMAADClientApplication -ServerApp $server -AppName "FcCmgClient" -ClientId "c10e9b74-4f2d-4c86-b3a9-6d58f7a2e013"

    By server app.

    .OUTPUTS
    IResultObject#SMS_AAD_Application_Ex

    .NOTES
    There is no default parameter set: -ServerApp or -TenantId decides.

    .LINK
    docs/reference/application.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_AAD_Application_Ex')]
    param(
        [Parameter(Mandatory = $true)]
        [Alias('ApplicationName')]
        [string] $AppName,

        [Parameter(Mandatory = $true)]
        [string] $ClientId,

        [Parameter(ParameterSetName = 'ByServerApp', Mandatory = $true)]
        [Alias('ServerApplication')]
        [object] $ServerApp,

        [Parameter(ParameterSetName = 'ById', Mandatory = $true)]
        [string] $TenantId,

        [Parameter()]
        [switch] $SkipVerify,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Get-CMAADApplication {
    <#
    .SYNOPSIS
    List the Entra app registrations the site knows, filtered by name, kind, client ID or tenant.

    .DESCRIPTION
    List the Entra app registrations the site knows, filtered by name, kind, client ID or tenant.

    The same on the command line: opencmg application list
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AppName
    Only apps with this name.

    .PARAMETER AppType
    Only server (web) apps or only client (native) apps. One of ServerApplication, ClientApplication.

    .PARAMETER ClientId
    Only the app with this application (client) ID, a GUID.

    .PARAMETER TenantId
    Only apps of the tenant with this GUID.

    .PARAMETER TenantName
    Only apps of the tenant with this name.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMAADApplication -TenantName "Fourth Coffee" -AppType ClientApplication

    Client apps of a named tenant.

    .EXAMPLE
    Get-CMAADApplication -TenantId "3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210" -AppType ServerApplication

    Server apps of a tenant ID.

    .EXAMPLE
    Get-CMAADApplication -AppName "FcCmgServer"

    One app by name.

    .OUTPUTS
    IResultObject#SMS_AAD_Application_Ex

    .LINK
    docs/reference/application.md
    #>
    [CmdletBinding(PositionalBinding = $false)]
    [OutputType('IResultObject#SMS_AAD_Application_Ex')]
    param(
        [Parameter()]
        [Alias('ApplicationName')]
        [string] $AppName,

        [Parameter()]
        [Alias('ApplicationType')]
        [ValidateSet('ServerApplication', 'ClientApplication')]
        [string] $AppType,

        [Parameter()]
        [string] $ClientId,

        [Parameter()]
        [string] $TenantId,

        [Parameter()]
        [string] $TenantName,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Reads
    }
}

function New-CMAADServerApplication {
    <#
    .SYNOPSIS
    Register a new server (web) app in Entra ID after an interactive sign-in, and record it in the site.

    .DESCRIPTION
    Register a new server (web) app in Entra ID after an interactive sign-in, and record it in the site.

    The same on the command line: opencmg application create-server
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AppName
    Display name of the new app.

    .PARAMETER AzureEnvironmentOption
    Azure cloud to register in. One of AzurePublicCloud, AzureUSGovernmentCloud, or any newer one.

    .PARAMETER SecretKeyExpiry
    How long the new secret is valid. One of OneYear, TwoYears, FiftyYears.

    .PARAMETER TenantId
    Entra tenant ID, a GUID; needed unless the site has one tenant only. (an addition of OpenCMG)

    .PARAMETER AppIdUri
    Application ID URI, unique in the tenant; left out, one is made. (an addition of OpenCMG)

    .PARAMETER ReadDirectory
    Ask for Directory.Read.All, which discovery needs. (an addition of OpenCMG)

    .PARAMETER SignInClientId
    Client ID of an app that signs in instead of a person, with SignInSecret; alone, of the public client through which the person signs in, instead of Microsoft Azure CLI. (an addition of OpenCMG)

    .PARAMETER SignInSecret
    Secret of that app. A SecureString, or a plain text. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    New-CMAADServerApplication -AppName "FcCmgServer"

    Register.

    .OUTPUTS
    IResultObject#SMS_AAD_Application_Ex

    .NOTES
    The sign-in is by device code: the cmdlet shows an address and a code, and goes on when somebody has signed in there. With -SignInClientId and -SignInSecret an app signs in instead.

    .LINK
    docs/reference/application.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_AAD_Application_Ex')]
    param(
        [Parameter(Mandatory = $true)]
        [Alias('ApplicationName')]
        [string] $AppName,

        [Parameter()]
        [ArgumentCompleter({
            param($commandName, $parameterName, $wordToComplete)
            @('AzurePublicCloud', 'AzureUSGovernmentCloud', 'AzureLab') -like "$wordToComplete*"
        })]
        [string] $AzureEnvironmentOption,

        [Parameter()]
        [ValidateSet('OneYear', 'TwoYears', 'FiftyYears')]
        [string] $SecretKeyExpiry,

        [Parameter()]
        [string] $TenantId,

        [Parameter()]
        [uri] $AppIdUri,

        [Parameter()]
        [switch] $ReadDirectory,

        [Parameter()]
        [string] $SignInClientId,

        [Parameter()]
        [OpenCMG.Secret()]
        [securestring]
        [OpenCMG.Secret()]
        $SignInSecret,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function New-CMAADClientApplication {
    <#
    .SYNOPSIS
    Register a new client (native) app in Entra ID after an interactive sign-in, and record it in the site.

    .DESCRIPTION
    Register a new client (native) app in Entra ID after an interactive sign-in, and record it in the site.

    The same on the command line: opencmg application create-client
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AppName
    Display name of the new app.

    .PARAMETER InputObject
    Server app that the client app calls.

    .PARAMETER SignInClientId
    Client ID of an app that signs in instead of a person, with SignInSecret; alone, of the public client through which the person signs in, instead of Microsoft Azure CLI. (an addition of OpenCMG)

    .PARAMETER SignInSecret
    Secret of that app. A SecureString, or a plain text. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    $server = New-CMAADServerApplication -AppName "FcCmgServer"
    New-CMAADClientApplication -AppName "FcCmgClient" -InputObject $server

    Register both.

    .OUTPUTS
    IResultObject#SMS_AAD_Application_Ex

    .NOTES
    The sign-in is by device code, as with New-CMAADServerApplication.

    .LINK
    docs/reference/application.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_AAD_Application_Ex')]
    param(
        [Parameter(Mandatory = $true)]
        [Alias('ApplicationName')]
        [string] $AppName,

        [Parameter(Mandatory = $true)]
        [object] $InputObject,

        [Parameter()]
        [string] $SignInClientId,

        [Parameter()]
        [OpenCMG.Secret()]
        [securestring]
        [OpenCMG.Secret()]
        $SignInSecret,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Set-UpdateServerApplication {
    <#
    .SYNOPSIS
    Add the missing redirect URL http://localhost to an old server app, in the site database and in Entra ID.

    .DESCRIPTION
    Add the missing redirect URL http://localhost to an old server app, in the site database and in Entra ID.

    The same on the command line: opencmg application update-server
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER TenantId
    Entra tenant ID, a GUID.

    .PARAMETER SignInClientId
    Client ID of an app that signs in instead of a person, with SignInSecret; alone, of the public client through which the person signs in, instead of Microsoft Azure CLI. (an addition of OpenCMG)

    .PARAMETER SignInSecret
    Secret of that app. A SecureString, or a plain text. (an addition of OpenCMG)

    .PARAMETER Wait
    Wait for the end of the operation that this begins, and show how far it is. Without it the cmdlet returns when the operation has begun. (an addition of OpenCMG)

    .EXAMPLE
    Set-UpdateServerApplication -TenantId 3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210

    Patch the server app.

    .OUTPUTS
    Nothing.

    .NOTES
    Its reference page names neither -WhatIf nor -Confirm. Both are there.

    .LINK
    docs/reference/application.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    param(
        [Parameter(Mandatory = $true)]
        [string] $TenantId,

        [Parameter()]
        [string] $SignInClientId,

        [Parameter()]
        [OpenCMG.Secret()]
        [securestring]
        [OpenCMG.Secret()]
        $SignInSecret,

        [Parameter()]
        [switch] $Wait
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}
