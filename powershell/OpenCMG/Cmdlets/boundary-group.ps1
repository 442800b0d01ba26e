# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function New-CMBoundaryGroup {
    <#
    .SYNOPSIS
    Create a boundary group.

    .DESCRIPTION
    Create a boundary group.

    The same on the command line: opencmg boundary-group create
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AddSiteSystemServer
    Site system objects to reference.

    .PARAMETER AddSiteSystemServerName
    Site system names to reference.

    .PARAMETER Name
    Name of the new group.

    .PARAMETER Boundary
    Its boundaries, as prefixes such as 10.1.0.0/16. (an addition of OpenCMG)

    .PARAMETER PreferCloudDPOverDP
    Prefer cloud based sources over on-premises sources. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    New-CMBoundaryGroup -Name "Home workers" -Boundary "10.8.0.0/16" -AddSiteSystemServerName "fcgateway.cloudapp.net"

    A group that is offered a gateway.

    .OUTPUTS
    IResultObject#SMS_BoundaryGroup

    .LINK
    docs/reference/boundary-group.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_BoundaryGroup')]
    param(
        [Parameter()]
        [Alias('AddSiteSystemServers')]
        [object[]] $AddSiteSystemServer,

        [Parameter()]
        [Alias('AddSiteSystemServerNames')]
        [string[]] $AddSiteSystemServerName,

        [Parameter(Mandatory = $true)]
        [string] $Name,

        [Parameter()]
        [string[]] $Boundary,

        [Parameter()]
        [bool] $PreferCloudDPOverDP,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Set-CMBoundaryGroup {
    <#
    .SYNOPSIS
    Change a boundary group; a CMG can be one of its referenced site systems.

    .DESCRIPTION
    Change a boundary group; a CMG can be one of its referenced site systems.

    The same on the command line: opencmg boundary-group set
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AddSiteSystemServer
    Site system objects to reference, a CMG among them.

    .PARAMETER AddSiteSystemServerName
    Site system FQDNs to reference, a CMG's service name among them.

    .PARAMETER ClearSiteSystemServer
    Drop every reference.

    .PARAMETER Id
    Boundary group ID.

    .PARAMETER InputObject
    Boundary group object.

    .PARAMETER Name
    Boundary group name.

    .PARAMETER PassThru
    Emit the changed object.

    .PARAMETER PreferCloudDPOverDP
    Whether clients prefer cloud sources to on-premises ones.

    .PARAMETER RemoveSiteSystemServer
    Site system objects to drop.

    .PARAMETER RemoveSiteSystemServerName
    Site system names to drop.

    .PARAMETER Boundary
    Its boundaries, as prefixes such as 10.1.0.0/16. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    $gw = Get-CMSiteSystemServer -Name "fcgateway.cloudapp.net"
    Set-CMBoundaryGroup -Name "Home workers" -AddSiteSystemServer $gw

    Reference a CMG.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    With -PassThru the object, an IResultObject#SMS_BoundaryGroup; else nothing.

    .LINK
    docs/reference/boundary-group.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SetByValueMandatory', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_BoundaryGroup')]
    param(
        [Parameter()]
        [Alias('AddSiteSystemServers')]
        [object[]] $AddSiteSystemServer,

        [Parameter()]
        [Alias('AddSiteSystemServerNames')]
        [string[]] $AddSiteSystemServerName,

        [Parameter()]
        [Alias('ClearSiteSystemServers')]
        [switch] $ClearSiteSystemServer,

        [Parameter(ParameterSetName = 'SetById', Mandatory = $true)]
        [Alias('GroupId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'SetByValueMandatory', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SetByName', Mandatory = $true)]
        [string] $Name,

        [Parameter()]
        [switch] $PassThru,

        [Parameter()]
        [Alias('PreferCloudDistributionPointOverDistributionPoint')]
        [bool] $PreferCloudDPOverDP,

        [Parameter()]
        [Alias('RemoveSiteSystemServers')]
        [object[]] $RemoveSiteSystemServer,

        [Parameter()]
        [Alias('RemoveSiteSystemServerNames')]
        [string[]] $RemoveSiteSystemServerName,

        [Parameter()]
        [string[]] $Boundary,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Get-CMBoundaryGroupSiteSystem {
    <#
    .SYNOPSIS
    List the site systems that a boundary group references.

    .DESCRIPTION
    List the site systems that a boundary group references.

    The same on the command line: opencmg boundary-group list-site-systems
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER GroupName
    Boundary group name, or a pattern. May have wildcards.

    .PARAMETER Id
    Boundary group IDs.

    .PARAMETER InputObject
    Boundary group object.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMBoundaryGroupSiteSystem -GroupName "Home workers"

    Of one group.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    IResultObject#SMS_BoundaryGroupSiteSystems

    .LINK
    docs/reference/boundary-group.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByName')]
    [OutputType('IResultObject#SMS_BoundaryGroupSiteSystems')]
    param(
        [Parameter(ParameterSetName = 'SearchByName')]
        [string] $GroupName,

        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('GroupId')]
        [string[]] $Id,

        [Parameter(ParameterSetName = 'ByValue', ValueFromPipeline = $true)]
        [Alias('BoundaryGroup')]
        [object] $InputObject,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Reads
    }
}

function Set-CMDefaultBoundaryGroup {
    <#
    .SYNOPSIS
    Include and prefer cloud sources for clients in the default site boundary group.

    .DESCRIPTION
    Include and prefer cloud sources for clients in the default site boundary group.

    The same on the command line: opencmg boundary-group set-default
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER GroupId
    ID of the default boundary group.

    .PARAMETER Name
    Name of the default boundary group.

    .PARAMETER SiteCode
    Site whose default boundary group to change.

    .PARAMETER IncludeCloudBasedSources
    Whether clients get cloud management points in the list.

    .PARAMETER PreferCloudBasedSources
    Whether cloud sources come first.

    .PARAMETER PassThru
    Emit the changed object.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Set-CMDefaultBoundaryGroup -IncludeCloudBasedSources $true -PreferCloudBasedSources $true

    Include and prefer cloud sources.

    .OUTPUTS
    With -PassThru the object, an IResultObject#SMS_DefaultBoundaryGroup; else nothing.

    .NOTES
    There is one default boundary group. Without -GroupId, -Name and -SiteCode the parameter set is Default.

    .LINK
    docs/reference/boundary-group.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'Default', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_DefaultBoundaryGroup')]
    param(
        [Parameter(ParameterSetName = 'ByGroupId', Mandatory = $true)]
        [int] $GroupId,

        [Parameter(ParameterSetName = 'ByName', Mandatory = $true)]
        [string] $Name,

        [Parameter(ParameterSetName = 'BySiteCode')]
        [Alias('DefaultSiteCode')]
        [string] $SiteCode,

        [Parameter()]
        [bool] $IncludeCloudBasedSources,

        [Parameter()]
        [bool] $PreferCloudBasedSources,

        [Parameter()]
        [switch] $PassThru,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}
