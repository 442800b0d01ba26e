# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function Get-CMCertificate {
    <#
    .SYNOPSIS
    List certificates of the Certificates node.

    .DESCRIPTION
    List certificates of the Certificates node.

    The same on the command line: opencmg certificate list
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER CertificateType
    Kind of certificate. One of BootMedia, DistributionPoint, IsvProxy.

    .PARAMETER Fast
    Do not refresh lazy properties.

    .PARAMETER Id
    Certificate ID.

    .PARAMETER KeyType
    Self-signed or issued. One of SelfSigned, Issued.

    .PARAMETER Thumbprint
    Thumbprint.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMCertificate

    All.

    .OUTPUTS
    IResultObject#SMS_Certificate

    .NOTES
    Bulk registration tokens and blocked client certificates are listed. There are no certificates of boot media, distribution points and proxies, so -CertificateType finds nothing.

    .LINK
    docs/reference/certificate.md
    #>
    [CmdletBinding(PositionalBinding = $false)]
    [OutputType('IResultObject#SMS_Certificate')]
    param(
        [Parameter()]
        [ValidateSet('BootMedia', 'DistributionPoint', 'IsvProxy')]
        [string] $CertificateType,

        [Parameter()]
        [switch] $Fast,

        [Parameter()]
        [Alias('SmsId')]
        [string] $Id,

        [Parameter()]
        [ValidateSet('SelfSigned', 'Issued')]
        [string] $KeyType,

        [Parameter()]
        [string] $Thumbprint,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Reads
    }
}

function Block-CMCertificate {
    <#
    .SYNOPSIS
    Block a certificate (the console blocks a bulk registration token by an action of the same name).

    .DESCRIPTION
    Block a certificate (the console blocks a bulk registration token by an action of the same name).

    The same on the command line: opencmg certificate block
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Id
    Certificate ID.

    .PARAMETER InputObject
    Certificate object.

    .PARAMETER PassThru
    Emit the object.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Block-CMCertificate -Id "c9d5b7f0-38a1-4c62-9e0f-5b1d27a8e346"

    A bulk registration token, by its ID.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    With -PassThru the object; else nothing.

    .NOTES
    -Id is the ID of a bulk registration token, or the SHA-256 thumbprint of a client certificate.

    .LINK
    docs/reference/certificate.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'ByValue', SupportsShouldProcess = $true)]
    param(
        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true, Position = 0)]
        [Alias('SmsId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'ByValue', Mandatory = $true, Position = 0, ValueFromPipeline = $true)]
        [Alias('Certificate')]
        [object] $InputObject,

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

function Unblock-CMCertificate {
    <#
    .SYNOPSIS
    Unblock a certificate.

    .DESCRIPTION
    Unblock a certificate.

    The same on the command line: opencmg certificate unblock
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Certificate
    Certificate object.

    .PARAMETER Id
    Certificate ID.

    .PARAMETER PassThru
    Emit the object.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMCertificate -Id "c9d5b7f0-38a1-4c62-9e0f-5b1d27a8e346" | Unblock-CMCertificate

    The same token.

    .INPUTS
    Objects for -Certificate, one after the other.

    .OUTPUTS
    With -PassThru the object; else nothing.

    .LINK
    docs/reference/certificate.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'ByValue', SupportsShouldProcess = $true)]
    param(
        [Parameter(ParameterSetName = 'ByValue', Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('InputObject')]
        [object] $Certificate,

        [Parameter(ParameterSetName = 'ById', Mandatory = $true)]
        [Alias('SMSID')]
        [string] $Id,

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

function Get-CMTrustedRootCertificate {
    <#
    .SYNOPSIS
    Read trusted root CA certificates known to the site.

    .DESCRIPTION
    Read trusted root CA certificates known to the site.

    The same on the command line: opencmg certificate list-trusted
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER CAServerName
    CA server name.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMTrustedRootCertificate

    All.

    .OUTPUTS
    Objects.

    .LINK
    docs/reference/certificate.md
    #>
    [CmdletBinding(PositionalBinding = $false)]
    param(
        [Parameter()]
        [Alias('CertificationAuthorityServerName')]
        [string] $CAServerName,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Reads
    }
}
