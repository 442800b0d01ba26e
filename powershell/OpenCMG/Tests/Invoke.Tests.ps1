# What the cmdlets send to the site, and what they make of its answers.

BeforeAll {
    . (Join-Path -Path $PSScriptRoot -ChildPath 'Site.ps1')
    Import-Module -Name (Join-Path -Path $PSScriptRoot -ChildPath '../OpenCMG.psd1') -Force
    $site = Start-TestSite -Folder $TestDrive
    $ndjson = 'application/x-ndjson'
    $gateway = '{"object":{"ObjectClass":"SMS_AzureService","AzureServiceID":7,"Name":"FcGateway","State":0,"LastUpdated":"2027-03-31T10:00:00Z"}}' + "`n"

    function Get-LastCall {
        ConvertFrom-Json -InputObject ($site.Server.Requests[-1] -split "`r`n`r`n", 2)[1]
    }
}

AfterAll {
    $site.Server.Dispose()
    Remove-Module -Name 'OpenCMG'
}

Describe 'Connect-OpenCMG' {
    It 'says who is signed in where' {
        $answer = Connect-TestSite -Site $site
        $answer.SiteCode | Should -Be 'ABC'
        $answer.Account | Should -Be 'kim'
    }

    It 'trusts no server of another CA' {
        $other = Join-Path -Path $TestDrive -ChildPath 'other.cer'
        [System.IO.File]::WriteAllBytes($other, (New-TestCertificate).CA)
        { Connect-OpenCMG -Site $site.Url -CAFile $other -Token 'token-of-kim' } | Should -Throw -ErrorId 'OpenCMG.Unreachable*' -ExpectedMessage '*not from the site CA*'
        @($site.Server.Requests).Count | Should -Be 0
    }

    It 'refuses a site without TLS' {
        { Connect-OpenCMG -Site 'http://localhost:1' -Token 'token-of-kim' } | Should -Throw -ErrorId 'OpenCMG.Invalid*'
    }

    It 'reads the profile of the program' {
        $tokenFile = Join-Path -Path $TestDrive -ChildPath 'token'
        Set-Content -Path $tokenFile -Value 'token-of-kim'
        $profileFile = Join-Path -Path $TestDrive -ChildPath 'site.yaml'
        Set-Content -Path $profileFile -Value "# a profile", "site: $($site.Url)", "caFile: 'site-ca.cer'", 'tokenFile: token # beside it'
        $site.Server.Answer(200, 'application/json', '{"code":"ABC","account":"kim","role":"Full Administrator"}')
        (Connect-OpenCMG -ProfileFile $profileFile).SiteCode | Should -Be 'ABC'
        $site.Server.Requests[-1] | Should -Match 'Authorization: Bearer token-of-kim'
    }
}

Describe 'a call' {
    BeforeEach {
        [void] (Connect-TestSite -Site $site)
    }

    It 'has the parameters by their names, whatever alias was used' {
        $site.Server.Answer(200, $ndjson, '')
        Set-CMCloudManagementGateway -Name 'FcGateway' -VMInstancesCount 3 -EnforceProtocol $true
        $site.Server.Requests[-1] | Should -Match '^POST /AdminService/v1.0/Cmdlets/Set-CMCloudManagementGateway '
        $call = Get-LastCall
        $call.parameters.Name | Should -Be 'FcGateway'
        $call.parameters.VMInstanceCount | Should -Be 3
        $call.parameters.EnforceProtocol | Should -BeTrue
        $call.parameters.Confirm | Should -BeFalse
        $call.wait | Should -BeFalse
    }

    It 'finds the parameter set: <Line>' -ForEach @(
        @{ Line = 'New-CMSchedule -RecurInterval Days -RecurCount 1' }
        @{ Line = 'Get-CMAADTenant' }
        @{ Line = 'Set-CMDefaultBoundaryGroup -IncludeCloudBasedSources $true' }
        @{ Line = 'Add-CMManagementPoint -SiteSystemServerName "mp01"' }
        @{ Line = 'Set-CMClientSetting -Name "x" -CloudService' }
        @{ Line = 'New-CMCloudManagementGateway -SelfHosted -ServiceName "gw.fourthcoffee.com"' }
        @{ Line = 'Import-CMAADClientApplication -TenantId "t" -AppName "a" -ClientId "c"' }
        @{ Line = 'Import-CMAADServerApplication "n" "t" "a" "c" "secret" "2027-03-31"' }
    ) {
        $site.Server.Answer(200, $ndjson, '')
        $scriptBlock = [scriptblock]::Create("$Line -ErrorAction Stop")
        { & $scriptBlock } | Should -Not -Throw
        @($site.Server.Requests).Count | Should -Be 1
    }

    It 'refuses two sets at once' {
        { Remove-CMCloudManagementGateway -Name 'a' -Id '1' -Force } | Should -Throw -ErrorId 'AmbiguousParameterSet*'
    }

    It 'is made once for each object that is piped in' {
        $site.Server.Answer(200, $ndjson, $gateway + $gateway.Replace('FcGateway', 'FcOther'))
        $site.Server.Answer(200, $ndjson, '')
        $site.Server.Answer(200, $ndjson, '')
        Get-CMCloudManagementGateway | Stop-CMCloudManagementGateway
        @($site.Server.Requests).Count | Should -Be 3
        (Get-LastCall).parameters.InputObject.Name | Should -Be 'FcOther'
        $site.Server.Requests[-1] | Should -Match '"LastUpdated":"2027-03-31T10:00:00Z"'
    }

    It 'brings the files that it names' {
        $pfx = Join-Path -Path $TestDrive -ChildPath 'gw.pfx'
        $root = Join-Path -Path $TestDrive -ChildPath 'root.cer'
        Set-Content -Path $pfx -Value 'the pfx' -NoNewline
        Set-Content -Path $root -Value 'the root' -NoNewline
        $site.Server.Answer(200, $ndjson, $gateway)
        $store = [Microsoft.ConfigurationManagement.AdminConsole.AzureServices.CertificateStore]::RootCA
        [void] (New-CMCloudManagementGateway -ServiceCertPath $pfx -ServiceCertPassword ('p' | ConvertTo-SecureString -AsPlainText -Force) -IsUsingExistingGroup $true -GroupName 'g' -CARootCert @{ $root = $store })
        $call = Get-LastCall
        $call.parameters.ServiceCertPassword | Should -Be 'p'
        $call.parameters.CARootCert.$root | Should -Be 'RootCA'
        [System.Text.Encoding]::ASCII.GetString([System.Convert]::FromBase64String($call.files.$pfx)) | Should -Be 'the pfx'
        [System.Text.Encoding]::ASCII.GetString([System.Convert]::FromBase64String($call.files.$root)) | Should -Be 'the root'
    }

    It 'asks the site with -WhatIf' {
        $site.Server.Answer(200, $ndjson, '{"whatIf":"What if: Performing the operation \"Remove-CMCloudManagementGateway\" on target \"gw\"."}' + "`n")
        Remove-CMCloudManagementGateway -Name 'gw' -WhatIf
        (Get-LastCall).parameters.WhatIf | Should -BeTrue
    }

    It 'gives objects with their class and dates' {
        $site.Server.Answer(200, $ndjson, $gateway)
        $object = Get-CMCloudManagementGateway
        $object.PSTypeNames | Should -Contain 'IResultObject#SMS_AzureService'
        $object.LastUpdated | Should -BeOfType ([datetime])
        ($object | Format-Table | Out-String) | Should -Match 'Ready'
    }

    It 'keeps a join token out of the result when it goes to a file' {
        $site.Server.Answer(200, $ndjson, '{"warning":"its join token is in the property JoinToken of the result"}' + "`n" + '{"object":{"ObjectClass":"SMS_SCI_SysResUse","JoinToken":"join-me"}}' + "`n")
        $file = Join-Path -Path $TestDrive -ChildPath 'join'
        $object = Add-CMCloudManagementGatewayConnectionPoint -CloudManagementGatewayName 'gw' -SiteSystemServerName 'cp01' -JoinTokenFile $file -WarningVariable warned -WarningAction SilentlyContinue
        $object.JoinToken | Should -BeNullOrEmpty
        (Get-Content -Path $file) | Should -Be 'join-me'
        "$warned" | Should -Match ([regex]::Escape($file))
    }
}

Describe 'an error' {
    BeforeEach {
        [void] (Connect-TestSite -Site $site)
    }

    It 'is a record with ID, category and next step' {
        $site.Server.Answer(404, 'application/problem+json', '{"title":"Not Found","status":404,"detail":"there is no gateway x: the site has gw","correlationId":"c1"}')
        Start-CMCloudManagementGateway -Name 'x' -ErrorVariable failed -ErrorAction SilentlyContinue
        $record = $failed[0]
        $record.FullyQualifiedErrorId | Should -Be 'OpenCMG.NotFound,Start-CMCloudManagementGateway'
        $record.CategoryInfo.Category | Should -Be 'ObjectNotFound'
        $record.ErrorDetails.RecommendedAction | Should -Match 'the site has gw'
        $record.Exception.Status | Should -Be 404
        $record.TargetObject | Should -Be 'x'
        $record.ToString() | Should -Not -Match 'c1'
    }

    It 'names the correlation ID when the site is at fault, and what a cloud says to do' {
        $problem = '{"title":"Service Unavailable","status":503,"detail":"Azure is busy","correlationId":"c2","cloudError":{"code":"Busy","message":"m","nextStep":"Try again in an hour."}}'
        $site.Server.Answer(200, $ndjson, '{"progress":{"operation":"o","activity":"start","percent":10,"step":"s","text":"t"}}' + "`n" + '{"problem":' + $problem + '}' + "`n")
        Start-CMCloudManagementGateway -Name 'gw' -ErrorVariable failed -ErrorAction SilentlyContinue
        $failed[0].ToString() | Should -Match 'correlation ID c2'
        $failed[0].ErrorDetails.RecommendedAction | Should -Be 'Try again in an hour.'
        $failed[0].CategoryInfo.Category | Should -Be 'ResourceUnavailable'
    }

    It 'does not end the others of a pipeline' {
        $site.Server.Answer(409, 'application/problem+json', '{"status":409,"detail":"gw runs"}')
        $site.Server.Answer(200, $ndjson, '')
        'a', 'b' | Start-CMCloudManagementGateway -ErrorVariable failed -ErrorAction SilentlyContinue
        @($failed).Count | Should -Be 1
        @($site.Server.Requests).Count | Should -Be 2
    }

    It 'never shows a secret' {
        $site.Server.Answer(400, 'application/problem+json', '{"status":400,"detail":"no"}')
        # Not the line of the script, which PowerShell quotes and which is the caller's.
        $shown = Import-CMAADServerApplication -TenantName 'n' -TenantId 't' -AppName 'a' -ClientId 'c' -SecretKey 'Zq8~secret' -SecretKeyExpiry '2027-03-31' -Verbose -ErrorVariable failed -ErrorAction SilentlyContinue 4>&1 | Out-String
        $shown += $failed[0].ToString() + $failed[0].ErrorDetails.RecommendedAction + $failed[0].TargetObject
        $shown | Should -Match '-SecretKey'
        $shown | Should -Not -Match 'Zq8'
        $shown | Should -Not -Match 'token-of-kim'
        (Get-LastCall).parameters.SecretKey | Should -Be 'Zq8~secret'
    }
}
