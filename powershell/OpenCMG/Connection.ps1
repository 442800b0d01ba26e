# Which site the cmdlets talk to, and how the administrator signs in there.

# The connection that holds; $null until there is one.
$script:Connection = $null

function Connect-OpenCMG {
    <#
    .SYNOPSIS
    Choose the site that the cmdlets work on, and check that you can sign in there.

    .DESCRIPTION
    What is not given comes from the environment (OPENCMG_SITE, OPENCMG_CA_FILE, OPENCMG_TOKEN,
    OPENCMG_TOKEN_FILE, OPENCMG_CERT_FILE, OPENCMG_KEY_FILE), else from a profile: the file that
    OPENCMG_PROFILE names, the one that "opencmg connect" keeps for this user, or
    opencmg-site/administrator.yaml below the current directory, which a site server writes.
    Without Connect-OpenCMG the first cmdlet connects in the same way.

    The connection is that of this PowerShell process. It ends with Disconnect-OpenCMG.

    .PARAMETER Site
    URL of the site, such as https://site.corp.example:8443.

    .PARAMETER CAFile
    File with the site CA (PEM or DER). Only servers with a certificate of this CA are trusted
    then. Left out: what the system trusts.

    .PARAMETER Token
    A local administrator token, or an Entra access token. It is kept encrypted in memory where
    the system can do that.

    .PARAMETER TokenFile
    File with the token in its first line.

    .PARAMETER Certificate
    Client certificate with its private key to sign in with, such as
    (Get-Item Cert:\CurrentUser\My\THUMBPRINT).

    .PARAMETER ProfileFile
    Profile to read instead of those above.

    .EXAMPLE
    Connect-OpenCMG

    The site of the profile that "opencmg connect" has kept.

    .EXAMPLE
    Connect-OpenCMG -Site 'https://site.corp.example:8443' -CAFile 'C:\opencmg\ca.pem' -Token (Read-Host -AsSecureString)

    .EXAMPLE
    Connect-OpenCMG -Site 'https://site.corp.example:8443' -Certificate (Get-Item 'Cert:\CurrentUser\My\0F1E2D3C4B5A69788796A5B4C3D2E1F001234567')

    .OUTPUTS
    OpenCMG.Connection: Site, SiteCode, Account, Role.
    #>
    [CmdletBinding()]
    [OutputType('OpenCMG.Connection')]
    param(
        [Parameter(Position = 0)]
        [uri] $Site,

        [Parameter()]
        [string] $CAFile,

        [Parameter()]
        [OpenCMG.Secret()]
        [securestring]
        [OpenCMG.Secret()]
        $Token,

        [Parameter()]
        [string] $TokenFile,

        [Parameter()]
        [System.Security.Cryptography.X509Certificates.X509Certificate2] $Certificate,

        [Parameter()]
        [string] $ProfileFile
    )
    process {
        $given = @{}
        if ($Site) { $given.site = $Site.OriginalString }
        foreach ($name in 'CAFile', 'TokenFile', 'ProfileFile') {
            if ($PSBoundParameters.ContainsKey($name)) {
                $given[$name] = Resolve-OpenCMGPath -Path $PSBoundParameters[$name]
            }
        }
        Disconnect-OpenCMG
        try {
            $connection = Open-OpenCMGConnection -Given $given -Token $Token -Certificate $Certificate
            $script:Connection = $connection
            $answer = Get-OpenCMGResource -Connection $connection -Path 'Site'
        } catch {
            Disconnect-OpenCMG
            $PSCmdlet.ThrowTerminatingError((ConvertTo-OpenCMGError -From $_ -Target $given.site))
        }
        $result = [pscustomobject] @{
            Site = $connection.Site
            SiteCode = $answer.code
            Account = $answer.account
            Role = $answer.role
        }
        $result.PSTypeNames.Insert(0, 'OpenCMG.Connection')
        $result
    }
}

function Disconnect-OpenCMG {
    <#
    .SYNOPSIS
    End the connection to the site and forget the token.

    .DESCRIPTION
    The next cmdlet connects anew, from the environment or a profile, unless Connect-OpenCMG is
    called first.

    .EXAMPLE
    Disconnect-OpenCMG
    #>
    [CmdletBinding()]
    param()
    process {
        if ($script:Connection) {
            $script:Connection.Client.Dispose()
            if ($script:Connection.Token) { $script:Connection.Token.Dispose() }
            $script:Connection = $null
        }
    }
}

# Makes a connection of what was given, the environment and a profile.
function Open-OpenCMGConnection {
    param([hashtable] $Given = @{}, [securestring] $Token, $Certificate)
    $environment = @{}
    foreach ($pair in @('site', 'OPENCMG_SITE'), @('caFile', 'OPENCMG_CA_FILE'), @('tokenFile', 'OPENCMG_TOKEN_FILE'), @('certFile', 'OPENCMG_CERT_FILE'), @('keyFile', 'OPENCMG_KEY_FILE')) {
        $environment[$pair[0]] = [System.Environment]::GetEnvironmentVariable($pair[1])
    }
    $sources = @($Given, $environment)
    if ($Given['ProfileFile']) {
        # What was named goes before what happens to be set.
        $sources = @($Given, (Read-OpenCMGProfile -Path $Given['ProfileFile']), $environment)
    } elseif (-not $Given['site'] -and -not $environment['site']) {
        # A site that is named says nothing about how a profile signs in elsewhere.
        $sources += Read-OpenCMGProfile
    }
    $how = @{}
    foreach ($source in $sources) {
        foreach ($key in 'site', 'caFile', 'tokenFile', 'certFile', 'keyFile') {
            if (-not $how[$key]) { $how[$key] = $source[$key] }
        }
    }
    $site = $how.site -as [uri]
    if (-not $site -or -not $site.IsAbsoluteUri -or $site.Scheme -ne 'https') {
        throw (New-OpenCMGFailure -Message "The site's URL '$($how.site)' must begin with https://, such as https://site.corp.example:8443.")
    }
    if (-not $Certificate -and -not $Token -and $how.certFile) {
        $Certificate = Read-OpenCMGCertificate -CertFile $how.certFile -KeyFile $how.keyFile
    }
    if (-not $Token -and -not $Certificate) {
        $Token = Read-OpenCMGToken -TokenFile $how.tokenFile -Site $how.site -FileFirst ([bool] $Given['TokenFile'])
    }
    New-OpenCMGConnection -Site $site -CAFile $how.caFile -Token $Token -Certificate $Certificate
}

function New-OpenCMGConnection {
    param([uri] $Site, [string] $CAFile, [securestring] $Token, $Certificate)
    $handler = New-Object -TypeName 'System.Net.Http.HttpClientHandler'
    $pin = $null
    if ($CAFile) {
        try {
            $pin = New-Object -TypeName 'OpenCMG.Pin' -ArgumentList $CAFile
        } catch {
            throw (New-OpenCMGFailure -Message "The site CA: $($_.Exception.GetBaseException().Message)")
        }
        $handler.ServerCertificateCustomValidationCallback = $pin.Callback
    }
    if ($PSVersionTable.PSVersion.Major -lt 6) {
        # .NET Framework may begin with less than the site takes.
        $handler.SslProtocols = [System.Security.Authentication.SslProtocols]::Tls12
    }
    if ($Certificate) {
        $handler.ClientCertificateOptions = [System.Net.Http.ClientCertificateOption]::Manual
        [void] $handler.ClientCertificates.Add($Certificate)
    }
    $handler.AllowAutoRedirect = $false
    $client = New-Object -TypeName 'System.Net.Http.HttpClient' -ArgumentList $handler
    # An operation may take an hour; Ctrl+C ends the wait.
    $client.Timeout = [System.Threading.Timeout]::InfiniteTimeSpan
    if ($Token) { $Token = $Token.Copy() }
    @{
        Site = $Site.GetLeftPart([System.UriPartial]::Authority)
        Client = $client
        Pin = $pin
        Token = $Token
    }
}

# The profile that is named, or the first that exists, as a table.
function Read-OpenCMGProfile {
    param([string] $Path)
    if (-not $Path) { $Path = $env:OPENCMG_PROFILE }
    $tried = @($Path)
    if (-not $Path) {
        $tried = @(
            (Join-Path -Path (Get-OpenCMGConfigDirectory) -ChildPath 'opencmg/site.yaml')
            (Resolve-OpenCMGPath -Path 'opencmg-site/administrator.yaml')
        )
        $Path = $tried | Where-Object -FilterScript { [System.IO.File]::Exists($_) } | Select-Object -First 1
    }
    if (-not $Path) {
        throw (New-OpenCMGFailure -Message "No site is known: there is neither $($tried -join ' nor '). Name the site with Connect-OpenCMG -Site, -CAFile and -Token, or keep it for every session with 'opencmg connect'.")
    }
    ConvertFrom-OpenCMGProfile -Lines (Read-OpenCMGLines -Path $Path -What 'The profile') -Path $Path
}

# Where a user's configuration is, as the program has it.
function Get-OpenCMGConfigDirectory {
    if ($env:APPDATA) { return $env:APPDATA }
    if ($env:XDG_CONFIG_HOME) { return $env:XDG_CONFIG_HOME }
    if ($PSVersionTable.PSVersion.Major -ge 6 -and $IsMacOS) { return "$HOME/Library/Application Support" }
    "$HOME/.config"
}

# A profile is YAML of the simplest kind: a text for each of a few keys. Relative
# paths in it are relative to it.
function ConvertFrom-OpenCMGProfile {
    param([string[]] $Lines, [string] $Path)
    $found = @{}
    $number = 0
    foreach ($line in $Lines) {
        $number++
        if ($line -match '^\s*(#.*|---\s*)?$') { continue }
        if ($line -cmatch '^(site|caFile|tokenFile|certFile|keyFile):\s+(.+?)\s*$') {
            $key = $Matches[1]
            $value = $Matches[2]
        } else {
            throw (New-OpenCMGFailure -Message "Profile $Path, line ${number}: must be one of site, caFile, tokenFile, certFile and keyFile, a colon, a space and a value.")
        }
        if ($value -match "^'((?:[^']|'')*)'\s*(#.*)?$") {
            $value = $Matches[1] -replace "''", "'"
        } elseif ($value -match '^"((?:[^"\\]|\\.)*)"\s*(#.*)?$') {
            $value = $Matches[1] -replace '\\(["\\/])', '$1'
        } else {
            $value = $value -replace '\s+#.*$', ''
        }
        if ($key -ne 'site' -and -not [System.IO.Path]::IsPathRooted($value)) {
            $value = Join-Path -Path ([System.IO.Path]::GetDirectoryName([System.IO.Path]::GetFullPath($Path))) -ChildPath $value
        }
        $found[$key] = $value
    }
    $found
}

function Read-OpenCMGLines {
    param([string] $Path, [string] $What)
    try {
        [System.IO.File]::ReadAllLines((Resolve-OpenCMGPath -Path $Path))
    } catch {
        throw (New-OpenCMGFailure -Message "${What}: $Path can not be read: $($_.Exception.GetBaseException().Message)")
    }
}

function Read-OpenCMGToken {
    param([string] $TokenFile, [string] $Site, [bool] $FileFirst)
    $text = ''
    if (-not $FileFirst) { $text = $env:OPENCMG_TOKEN }
    if (-not $text -and $TokenFile) {
        $text = Read-OpenCMGLines -Path $TokenFile -What "The administrator's token" | Where-Object -FilterScript { $_.Trim() } | Select-Object -First 1
    }
    if (-not $text) {
        throw (New-OpenCMGFailure -Message "Nothing says how to sign in to ${Site}: give Connect-OpenCMG -Token, -TokenFile or -Certificate, or set OPENCMG_TOKEN.")
    }
    (New-Object -TypeName 'OpenCMG.SecretAttribute').Transform($null, $text.Trim())
}

# A certificate and its key from two PEM files, which .NET Framework can not read.
function Read-OpenCMGCertificate {
    param([string] $CertFile, [string] $KeyFile)
    $type = [System.Security.Cryptography.X509Certificates.X509Certificate2]
    if (-not $type.GetMethod('CreateFromPemFile')) {
        throw (New-OpenCMGFailure -Message "Windows PowerShell can not read the key in ${KeyFile}: put the certificate into your certificate store and give Connect-OpenCMG -Certificate, or use PowerShell 7.")
    }
    $pair = $type::CreateFromPemFile($CertFile, $KeyFile)
    # Windows does not take a key that was never in a PFX.
    New-Object -TypeName $type.FullName -ArgumentList @(, $pair.Export('Pfx'))
}

# A file's full name. Documented scripts run on a site drive, so a relative path is
# one of the file system wherever the session is.
function Resolve-OpenCMGPath {
    param([string] $Path)
    $state = $ExecutionContext.SessionState.Path
    if ($Path -match '^(~|[^:\\/]{2,}:)') {
        return $state.GetUnresolvedProviderPathFromPSPath($Path)
    }
    if ([System.IO.Path]::IsPathRooted($Path)) { return $Path }
    [System.IO.Path]::GetFullPath([System.IO.Path]::Combine($state.CurrentFileSystemLocation.ProviderPath, $Path))
}
