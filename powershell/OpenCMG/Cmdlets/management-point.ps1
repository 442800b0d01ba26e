# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function Set-CMManagementPoint {
    <#
    .SYNOPSIS
    Change a management point; EnableCloudGateway lets CMG traffic through.

    .DESCRIPTION
    Change a management point; EnableCloudGateway lets CMG traffic through.

    The same on the command line: opencmg management-point set
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER ClientConnectionType
    Which clients may connect. One of Internet, Intranet, InternetAndIntranet.

    .PARAMETER EnableCloudGateway
    Whether CMG traffic is allowed.

    .PARAMETER EnableSsl
    Whether HTTPS is required.

    .PARAMETER InputObject
    Role object to change (site system object on Add-).

    .PARAMETER PassThru
    Emit the changed object.

    .PARAMETER SiteCode
    Site code of the site that owns the role.

    .PARAMETER SiteSystemServerName
    Site system server name.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Set-CMManagementPoint -EnableCloudGateway $true -SiteSystemServerName "mp01.fourthcoffee.com"

    Let CMG traffic through.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    With -PassThru the object, an IResultObject#SMS_SCI_SysResUse; else nothing.

    .LINK
    docs/reference/management-point.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SetByValue', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_SCI_SysResUse')]
    param(
        [Parameter()]
        [ValidateSet('Internet', 'Intranet', 'InternetAndIntranet')]
        [string] $ClientConnectionType,

        [Parameter()]
        [bool] $EnableCloudGateway,

        [Parameter()]
        [bool] $EnableSsl,

        [Parameter(ParameterSetName = 'SetByValue', Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('ManagementPoint')]
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

function Add-CMManagementPoint {
    <#
    .SYNOPSIS
    Install a management point; EnableCloudGateway (a switch here) lets CMG traffic through.

    .DESCRIPTION
    Install a management point; EnableCloudGateway (a switch here) lets CMG traffic through.

    The same on the command line: opencmg management-point add
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER ClientConnectionType
    Which clients may connect. One of Internet, Intranet, InternetAndIntranet.

    .PARAMETER CommunicationType
    HTTP or HTTPS. One of Http, Https.

    .PARAMETER EnableCloudGateway
    Allow CMG traffic.

    .PARAMETER EnableSsl
    Require HTTPS.

    .PARAMETER InputObject
    Role object to change (site system object on Add-).

    .PARAMETER SiteCode
    Site code of the site that owns the role.

    .PARAMETER SiteSystemServerName
    Site system server name.

    .PARAMETER InternalUrl
    URLs by which connection points reach the role. Left out: the server and the usual port. (an addition of OpenCMG)

    .PARAMETER CaPath
    PEM file with the CA of the role's server certificate, when the connection points' systems do not trust it. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Add-CMManagementPoint -SiteSystemServerName "mp01.fourthcoffee.com" -CommunicationType Https -EnableCloudGateway

    Install one that lets CMG traffic through.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    IResultObject#SMS_SCI_SysResUse

    .NOTES
    A management point is not pushed to the server: it joins from there.
    There is no database replica for it, so the parameters of ByNameReplica and ByValueReplica are those of the other two sets, and PowerShell, which could not tell them apart, has only those.

    .LINK
    docs/reference/management-point.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'ByValueNoReplica', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_SCI_SysResUse')]
    param(
        [Parameter()]
        [ValidateSet('Internet', 'Intranet', 'InternetAndIntranet')]
        [string] $ClientConnectionType,

        [Parameter()]
        [Alias('ClientCommunicationType')]
        [ValidateSet('Http', 'Https')]
        [string] $CommunicationType,

        [Parameter()]
        [switch] $EnableCloudGateway,

        [Parameter()]
        [switch] $EnableSsl,

        [Parameter(ParameterSetName = 'ByValueNoReplica', Mandatory = $true, Position = 0, ValueFromPipeline = $true)]
        [Alias('SiteServer')]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'ByNameNoReplica')]
        [string] $SiteCode,

        [Parameter(ParameterSetName = 'ByNameNoReplica', Mandatory = $true, Position = 0)]
        [Alias('Name', 'ServerName')]
        [string] $SiteSystemServerName,

        [Parameter()]
        [string[]] $InternalUrl,

        [Parameter()]
        [string] $CaPath,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Path @('CaPath')
    }
}
