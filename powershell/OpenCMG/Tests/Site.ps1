# What the tests share: a site on loopback. Dot-source it in BeforeAll.

# A certificate authority and a server certificate of it, new each time.
function New-TestCertificate {
    $prefix = 'System.Security.Cryptography.X509Certificates'
    $hash = [System.Security.Cryptography.HashAlgorithmName]::SHA256
    $padding = [System.Security.Cryptography.RSASignaturePadding]::Pkcs1
    $from = [System.DateTimeOffset]::UtcNow.AddHours(-1)
    $to = $from.AddDays(1)

    $caKey = [System.Security.Cryptography.RSA]::Create(2048)
    $request = New-Object -TypeName "$prefix.CertificateRequest" -ArgumentList 'CN=Site CA', $caKey, $hash, $padding
    $request.CertificateExtensions.Add((New-Object -TypeName "$prefix.X509BasicConstraintsExtension" -ArgumentList $true, $false, 0, $true))
    $ca = $request.CreateSelfSigned($from, $to)

    $key = [System.Security.Cryptography.RSA]::Create(2048)
    $request = New-Object -TypeName "$prefix.CertificateRequest" -ArgumentList 'CN=localhost', $key, $hash, $padding
    $names = New-Object -TypeName "$prefix.SubjectAlternativeNameBuilder"
    $names.AddDnsName('localhost')
    $request.CertificateExtensions.Add($names.Build($false))
    $usages = New-Object -TypeName 'System.Security.Cryptography.OidCollection'
    [void] $usages.Add((New-Object -TypeName 'System.Security.Cryptography.Oid' -ArgumentList '1.3.6.1.5.5.7.3.1'))
    $request.CertificateExtensions.Add((New-Object -TypeName "$prefix.X509EnhancedKeyUsageExtension" -ArgumentList $usages, $false))
    $certificate = $request.Create($ca, $from, $to, [byte[]] @(1, 2, 3, 4))
    $pair = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::CopyWithPrivateKey($certificate, $key)
    @{ CA = $ca.RawData; Server = $pair.Export('Pfx', '') }
}

# Starts a site and connects to it. $Folder takes the file with its CA.
function Start-TestSite {
    param([string] $Folder)
    if (-not ('OpenCMG.Tests.Server' -as [type])) {
        Add-Type -Path (Join-Path -Path $PSScriptRoot -ChildPath 'Server.cs') -IgnoreWarnings
    }
    $made = New-TestCertificate
    $file = Join-Path -Path $Folder -ChildPath 'site-ca.cer'
    [System.IO.File]::WriteAllBytes($file, $made.CA)
    $server = New-Object -TypeName 'OpenCMG.Tests.Server' -ArgumentList @(, $made.Server)
    @{ Server = $server; CAFile = $file; Url = "https://localhost:$($server.Port)" }
}

# Connects to it with a token.
function Connect-TestSite {
    param([hashtable] $Site)
    $Site.Server.Answer(200, 'application/json', '{"code":"ABC","account":"kim","role":"Full Administrator"}')
    $answer = Connect-OpenCMG -Site $Site.Url -CAFile $Site.CAFile -Token 'token-of-kim'
    $Site.Server.Clear()
    $answer
}
