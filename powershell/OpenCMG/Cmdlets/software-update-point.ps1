# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function Set-CMSoftwareUpdatePoint {
    <#
    .SYNOPSIS
    Change a software update point; EnableCloudGateway lets CMG traffic through.

    .DESCRIPTION
    Change a software update point; EnableCloudGateway lets CMG traffic through.

    The same on the command line: opencmg software-update-point set
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER ClientConnectionType
    Which clients may connect. One of Internet, Intranet, InternetAndIntranet.

    .PARAMETER EnableCloudGateway
    Whether CMG traffic is allowed.

    .PARAMETER EnableSsl
    Whether WSUS needs SSL.

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
    Set-CMSoftwareUpdatePoint -SiteSystemServerName "sup01.fourthcoffee.com" -EnableCloudGateway $true

    Let CMG traffic through.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    With -PassThru the object, an IResultObject#SMS_SCI_SysResUse; else nothing.

    .LINK
    docs/reference/software-update-point.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'ByValue', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_SCI_SysResUse')]
    param(
        [Parameter()]
        [ValidateSet('Internet', 'Intranet', 'InternetAndIntranet')]
        [string] $ClientConnectionType,

        [Parameter()]
        [bool] $EnableCloudGateway,

        [Parameter()]
        [Alias('SslWsus', 'WsusSsl')]
        [bool] $EnableSsl,

        [Parameter(ParameterSetName = 'ByValue', Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('SoftwareUpdatePoint')]
        [object] $InputObject,

        [Parameter()]
        [switch] $PassThru,

        [Parameter(ParameterSetName = 'ByName')]
        [string] $SiteCode,

        [Parameter(ParameterSetName = 'ByName', Mandatory = $true, Position = 0)]
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

function Add-CMSoftwareUpdatePoint {
    <#
    .SYNOPSIS
    Install a software update point; EnableCloudGateway (a switch here) lets CMG traffic through.

    .DESCRIPTION
    Install a software update point; EnableCloudGateway (a switch here) lets CMG traffic through.

    The same on the command line: opencmg software-update-point add
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER ClientConnectionType
    Which clients may connect. One of Internet, Intranet, InternetAndIntranet.

    .PARAMETER EnableCloudGateway
    Allow CMG traffic.

    .PARAMETER InputObject
    Role object to change (site system object on Add-).

    .PARAMETER SiteCode
    Site code of the site that owns the role.

    .PARAMETER SiteSystemServerName
    Site system server name.

    .PARAMETER WsusSsl
    Whether WSUS needs SSL.

    .PARAMETER InternalUrl
    URLs by which connection points reach the role. Left out: the server and the usual port. (an addition of OpenCMG)

    .PARAMETER CaPath
    PEM file with the CA of the role's server certificate, when the connection points' systems do not trust it. (an addition of OpenCMG)

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Add-CMSoftwareUpdatePoint -SiteSystemServerName "sup01.fourthcoffee.com" -WsusSsl $true -EnableCloudGateway

    Record one that lets CMG traffic through.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    IResultObject#SMS_SCI_SysResUse

    .LINK
    docs/reference/software-update-point.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SumPByValueWithWsus', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_SCI_SysResUse')]
    param(
        [Parameter()]
        [ValidateSet('Internet', 'Intranet', 'InternetAndIntranet')]
        [string] $ClientConnectionType,

        [Parameter()]
        [switch] $EnableCloudGateway,

        [Parameter(ParameterSetName = 'SumPByValueWithWsus', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SumPWithWsus')]
        [string] $SiteCode,

        [Parameter(ParameterSetName = 'SumPWithWsus', Mandatory = $true, Position = 0)]
        [Alias('Name', 'ServerName')]
        [string] $SiteSystemServerName,

        [Parameter()]
        [Alias('SslWsus')]
        [bool] $WsusSsl,

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
