# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function Add-CMCloudManagementGatewayConnectionPoint {
    <#
    .SYNOPSIS
    Install the CMG connection point role on a site system and point it at a gateway.

    .DESCRIPTION
    Install the CMG connection point role on a site system and point it at a gateway.

    The same on the command line: opencmg connection-point add
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER CloudManagementGatewayName
    Service name of the gateway that the connection point serves.

    .PARAMETER InputObject
    Site system object to install the role on, from Get-CMSiteSystemServer.

    .PARAMETER SiteCode
    Site code of the site that owns the role.

    .PARAMETER SiteSystemServerName
    FQDN of the site system server.

    .PARAMETER JoinTokenFile
    Write the join token to this new file instead of returning it, when no connection point has joined from the server yet. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Add-CMCloudManagementGatewayConnectionPoint -CloudManagementGatewayName "FcGateway.cloudapp.net" -SiteSystemServerName "gwcp01.fourthcoffee.com"

    On a named server.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    IResultObject#SMS_SCI_SysResUse

    .NOTES
    A connection point is not pushed to the server: it joins from there. When none has joined yet, the result has a join token in its property JoinToken, good for one host; with -JoinTokenFile it is written to a new file instead.

    .LINK
    docs/reference/connection-point.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'ByValue', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_SCI_SysResUse')]
    param(
        [Parameter(Mandatory = $true)]
        [string] $CloudManagementGatewayName,

        [Parameter(ParameterSetName = 'ByValue', ValueFromPipeline = $true)]
        [Alias('SiteServer')]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'ByName')]
        [string] $SiteCode,

        [Parameter(ParameterSetName = 'ByName', Mandatory = $true, Position = 0)]
        [Alias('Name', 'ServerName')]
        [string] $SiteSystemServerName,

        [Parameter()]
        [string] $JoinTokenFile,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Get-CMCloudManagementGatewayConnectionPoint {
    <#
    .SYNOPSIS
    List CMG connection point roles, by server name pattern, site, or site system object.

    .DESCRIPTION
    List CMG connection point roles, by server name pattern, site, or site system object.

    The same on the command line: opencmg connection-point list
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AllSite
    Return the role from every site.

    .PARAMETER InputObject
    Site system object whose role to return, from Get-CMSiteSystemServer.

    .PARAMETER SiteCode
    Site code of the site that owns the role.

    .PARAMETER SiteSystemServerName
    FQDN, or a pattern, of the servers whose role to return. May have wildcards.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMSiteSystemServer -SiteSystemServerName "gwcp01.fourthcoffee.com" | Get-CMCloudManagementGatewayConnectionPoint

    Of a site system from the pipeline.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    IResultObject#SMS_SCI_SysResUse

    .LINK
    docs/reference/connection-point.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByName')]
    [OutputType('IResultObject#SMS_SCI_SysResUse')]
    param(
        [Parameter()]
        [Alias('AllSites')]
        [switch] $AllSite,

        [Parameter(ParameterSetName = 'SearchByValue', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SearchByName')]
        [string] $SiteCode,

        [Parameter(ParameterSetName = 'SearchByName', Position = 0)]
        [Alias('Name', 'ServerName')]
        [string] $SiteSystemServerName,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Reads
    }
}

function Remove-CMCloudManagementGatewayConnectionPoint {
    <#
    .SYNOPSIS
    Remove the CMG connection point role from a site system.

    .DESCRIPTION
    Remove the CMG connection point role from a site system.

    The same on the command line: opencmg connection-point remove
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Force
    Do not ask for confirmation.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER SiteCode
    Site code of the site that owns the role.

    .PARAMETER SiteSystemServerName
    FQDN of the site system server.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMCloudManagementGatewayConnectionPoint -SiteSystemServerName "gwcp01.fourthcoffee.com" | Remove-CMCloudManagementGatewayConnectionPoint

    Through the pipeline.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    Nothing.

    .NOTES
    It asks before it removes, unless -Force or -Confirm:$false is there.

    .LINK
    docs/reference/connection-point.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByValueMandatory', SupportsShouldProcess = $true, ConfirmImpact = 'High')]
    param(
        [Parameter()]
        [switch] $Force,

        [Parameter(ParameterSetName = 'SearchByValueMandatory', Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('GatewayConnectionPoint')]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SearchByNameMandatory')]
        [string] $SiteCode,

        [Parameter(ParameterSetName = 'SearchByNameMandatory', Mandatory = $true, Position = 0)]
        [Alias('Name', 'ServerName')]
        [string] $SiteSystemServerName,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Set-CMCloudManagementGatewayConnectionPoint {
    <#
    .SYNOPSIS
    Repoint an existing CMG connection point at another gateway.

    .DESCRIPTION
    Repoint an existing CMG connection point at another gateway.

    The same on the command line: opencmg connection-point set
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER CloudManagementGatewayName
    Service name of the gateway that the connection point serves.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER PassThru
    Emit the changed object; without it the cmdlet may emit nothing.

    .PARAMETER SiteCode
    Site code of the site that owns the role.

    .PARAMETER SiteSystemServerName
    FQDN of the site system server.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Set-CMCloudManagementGatewayConnectionPoint -CloudManagementGatewayName "FcGateway2.cloudapp.net" -SiteSystemServerName "gwcp01.fourthcoffee.com"

    Repoint at another gateway.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    With -PassThru the object, an IResultObject#SMS_SCI_SysResUse; else nothing.

    .LINK
    docs/reference/connection-point.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SetByValue', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_SCI_SysResUse')]
    param(
        [Parameter(Mandatory = $true)]
        [string] $CloudManagementGatewayName,

        [Parameter(ParameterSetName = 'SetByValue', Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('GatewayConnectionPoint')]
        [object] $InputObject,

        [Parameter()]
        [switch] $PassThru,

        [Parameter(ParameterSetName = 'SetByName')]
        [string] $SiteCode,

        [Parameter(ParameterSetName = 'SetByName', Mandatory = $true, Position = 0)]
        [Alias('Name', 'ServerName')]
        [string] $SiteSystemServerName,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}
