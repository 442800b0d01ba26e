# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function Get-CMSiteRole {
    <#
    .SYNOPSIS
    List site roles; "SMS Cloud Proxy Connector" is the CMG connection point, "SMS Dmp Connector" the service connection point.

    .DESCRIPTION
    List site roles; "SMS Cloud Proxy Connector" is the CMG connection point, "SMS Dmp Connector" the service connection point.

    The same on the command line: opencmg site-role list
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AllSite
    Every site.

    .PARAMETER InputObject
    Site system object.

    .PARAMETER RoleName
    RoleName value, or a pattern. May have wildcards.

    .PARAMETER SiteCode
    Site code of the site that owns the role.

    .PARAMETER SiteSystemServerName
    Site system server name. May have wildcards.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMSiteRole -RoleName "SMS Cloud Proxy Connector"

    Connection points.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    IResultObject#SMS_SCI_SysResUse

    .LINK
    docs/reference/site-role.md
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
        [string] $RoleName,

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
