# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function Get-CMAADTenant {
    <#
    .SYNOPSIS
    List the Entra tenants that the site is connected to.

    .DESCRIPTION
    List the Entra tenants that the site is connected to.

    The same on the command line: opencmg tenant list
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Id
    Tenant ID, a GUID.

    .PARAMETER Name
    Tenant name.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMAADTenant

    Every tenant.

    .EXAMPLE
    Get-CMAADTenant -Name "Fourth Coffee"

    By name.

    .EXAMPLE
    Get-CMAADTenant -Id "3f2b6c1e-8d47-4a90-9c55-1e0a7b64d210"

    By ID.

    .OUTPUTS
    Objects.

    .NOTES
    Its reference page describes -WhatIf and -Confirm. They are taken, and do nothing, since nothing is changed.

    .LINK
    docs/reference/tenant.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    param(
        [Parameter(ParameterSetName = 'SetById', Mandatory = $true)]
        [string] $Id,

        [Parameter(ParameterSetName = 'SetByName')]
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
