# Running a cmdlet at the site: POST /AdminService/v1.0/Cmdlets/{name}, which
# answers in lines of JSON while it works.

$script:BasePath = '/AdminService/v1.0/'

# Runs the cmdlet that $Cmdlet is, with the parameters that it was given. $Path
# names the parameters whose files the site needs; $Reads says that it changes
# nothing.
function Invoke-OpenCMGCmdlet {
    param(
        [System.Management.Automation.PSCmdlet] $Cmdlet,
        [System.Collections.IDictionary] $Parameters,
        [string[]] $Path = @(),
        [switch] $Reads
    )
    $name = $Cmdlet.MyInvocation.MyCommand.Name
    $call = Get-OpenCMGCall -Parameters $Parameters
    $target = Get-OpenCMGTarget -Parameters $call.parameters -Name $name
    if ($WhatIfPreference -and -not $Reads) {
        # The site knows best what would be done to what.
        $call.parameters['WhatIf'] = $true
    } elseif (-not $Reads) {
        $ask = -not $Parameters['Force'] -or $Parameters.ContainsKey('Confirm')
        if ($ask -and -not $Cmdlet.ShouldProcess($target, $name)) { return }
        # PowerShell has asked, so the site need not.
        $call.parameters['Confirm'] = $false
    }
    $file = $null
    $body = New-Object -TypeName 'OpenCMG.Body'
    try {
        # The site can not write a file here.
        $call.parameters.Remove('JoinTokenFile')
        if ($Parameters['JoinTokenFile'] -and -not $WhatIfPreference) {
            $file = New-OpenCMGSecretFile -Path $Parameters['JoinTokenFile']
        }
        $request = @{ parameters = $call.parameters; wait = $call.wait }
        $files = Read-OpenCMGFiles -Parameters $call.parameters -Path $Path
        if ($files.Count -gt 0) { $request.files = $files }
        $body.Write($request)
        if (-not $script:Connection) { $script:Connection = Open-OpenCMGConnection }
        Write-Verbose -Message "POST $($script:Connection.Site)$($script:BasePath)Cmdlets/$name with $(@($call.parameters.Keys | Sort-Object | ForEach-Object -Process { "-$_" }) -join ', ')"
        Read-OpenCMGAnswer -Cmdlet $Cmdlet -Body $body -File $file -Target $target
    } catch [OpenCMG.ProblemException] {
        # Anything else may be the failure of a command further down the pipeline.
        $Cmdlet.WriteError((ConvertTo-OpenCMGError -From $_ -Target $target))
    } finally {
        $body.Dispose()
        if ($file) { Close-OpenCMGSecretFile -File $file }
        Write-Progress -Activity $name -Completed
    }
}

# The parameters as the site takes them: without those that are PowerShell's own.
function Get-OpenCMGCall {
    param([System.Collections.IDictionary] $Parameters)
    $own = @([System.Management.Automation.PSCmdlet]::CommonParameters) + @([System.Management.Automation.PSCmdlet]::OptionalCommonParameters) + @('Wait')
    $call = @{ parameters = @{}; wait = [bool] $Parameters['Wait'] }
    foreach ($key in $Parameters.Keys) {
        if ($own -notcontains $key) { $call.parameters[$key] = $Parameters[$key] }
    }
    $call
}

# What a question names: the object, or what its name or ID was given as.
function Get-OpenCMGTarget {
    param([hashtable] $Parameters, [string] $Name)
    foreach ($key in 'InputObject', 'Certificate', 'Name', 'SiteSystemServerName', 'Id', 'GroupId', 'ServiceName', 'AppName', 'ServiceCertPath', 'TenantId') {
        $value = $Parameters[$key]
        if ($null -eq $value) { continue }
        if ($value -is [string] -or $value -is [ValueType]) { return "$value" }
        foreach ($property in 'Name', 'LocalizedDisplayName', 'NetworkOSPath', 'SMSID', 'ID') {
            if ($value.$property) { return "$($value.$property)".TrimStart('\') }
        }
        return "$value"
    }
    $Name
}

# The contents of the files that parameters name, by that name.
function Read-OpenCMGFiles {
    param([hashtable] $Parameters, [string[]] $Path)
    $files = @{}
    foreach ($key in $Path) {
        $value = $Parameters[$key]
        $names = @()
        if ($value -is [System.Collections.IDictionary]) {
            $names = @($value.Keys)
        } elseif ($value) {
            $names = @($value)
        }
        foreach ($name in $names) {
            try {
                $files["$name"] = [System.IO.File]::ReadAllBytes((Resolve-OpenCMGPath -Path "$name"))
            } catch {
                throw (New-OpenCMGFailure -Message "-${key}: the file $name can not be read: $($_.Exception.GetBaseException().Message)")
            }
        }
    }
    $files
}

# Sends a request and waits for the head of the answer. $Body is $null for a GET.
function Send-OpenCMGRequest {
    param([hashtable] $Connection, [string] $Path, $Body)
    $method = 'GET'
    if ($Body) { $method = 'POST' }
    $request = New-Object -TypeName 'System.Net.Http.HttpRequestMessage' -ArgumentList (New-Object -TypeName 'System.Net.Http.HttpMethod' -ArgumentList $method), ($Connection.Site + $script:BasePath + $Path)
    if ($Body) {
        $request.Content = New-Object -TypeName 'System.Net.Http.ByteArrayContent' -ArgumentList @($Body.Buffer, 0, $Body.Length)
        $request.Content.Headers.ContentType = 'application/json'
        # Windows PowerShell would wait for an answer to the head alone.
        $request.Headers.ExpectContinue = $false
    }
    if ($Connection.Token) {
        # A header is a text: this is the last moment, and the request does not live long.
        $plain = (New-Object -TypeName 'System.Net.NetworkCredential' -ArgumentList '', $Connection.Token).Password
        $request.Headers.Authorization = New-Object -TypeName 'System.Net.Http.Headers.AuthenticationHeaderValue' -ArgumentList 'Bearer', $plain
    }
    $cancel = New-Object -TypeName 'System.Threading.CancellationTokenSource'
    try {
        Wait-OpenCMGTask -Task ($Connection.Client.SendAsync($request, [System.Net.Http.HttpCompletionOption]::ResponseHeadersRead, $cancel.Token))
    } catch {
        $cause = $_.Exception.GetBaseException().Message.TrimEnd('.')
        if ($Connection.Pin -and $Connection.Pin.Refusal) { $cause = $Connection.Pin.Refusal }
        throw (New-OpenCMGFailure -Status 0 -Message "The site at $($Connection.Site) can not be reached: $cause." -Next 'Check the address and the site CA (Connect-OpenCMG), and that the site server runs.')
    } finally {
        # Ctrl+C comes here too, while the request is under way.
        $cancel.Cancel()
        $cancel.Dispose()
        $request.Dispose()
    }
}

# Waits for a task in small steps, so that Ctrl+C is heard, and gives its result.
function Wait-OpenCMGTask {
    param([System.Threading.Tasks.Task] $Task)
    while ([System.Threading.Tasks.Task]::WaitAny([System.Threading.Tasks.Task[]] @($Task), 200) -lt 0) { }
    $Task.GetAwaiter().GetResult()
}

# Sends the call, and passes on what the site answers while it works.
function Read-OpenCMGAnswer {
    param([System.Management.Automation.PSCmdlet] $Cmdlet, $Body, $File, $Target)
    $name = $Cmdlet.MyInvocation.MyCommand.Name
    $response = Send-OpenCMGRequest -Connection $script:Connection -Path "Cmdlets/$name" -Body $Body
    $reader = $null
    try {
        $stream = Wait-OpenCMGTask -Task ($response.Content.ReadAsStreamAsync())
        $reader = New-Object -TypeName 'System.IO.StreamReader' -ArgumentList $stream, ([System.Text.Encoding]::UTF8)
        if (-not $response.IsSuccessStatusCode) {
            $text = Wait-OpenCMGTask -Task ($reader.ReadToEndAsync())
            throw (ConvertTo-OpenCMGException -Text $text -Status ([int] $response.StatusCode))
        }
        while ($null -ne ($text = Wait-OpenCMGTask -Task ($reader.ReadLineAsync()))) {
            if (-not $text.Trim()) { continue }
            $line = ConvertFrom-Json -InputObject $text
            if ($null -ne $line.object) {
                ConvertTo-OpenCMGObject -Value $line.object -File $File
            } elseif ($line.progress) {
                Show-OpenCMGProgress -Activity $name -Progress $line.progress
            } elseif ($line.warning) {
                $warning = "$($line.warning)"
                if ($File) { $warning = $warning.Replace('the property JoinToken of the result', $File.Path) }
                Write-Warning -Message $warning
            } elseif ($line.whatIf) {
                # PowerShell writes it itself, with its own "What if: " before it.
                $what = "$($line.whatIf)" -replace '^What if:\s*', ''
                [void] $Cmdlet.ShouldProcess($what, $what, $name)
            } elseif ($line.problem) {
                throw (ConvertTo-OpenCMGException -Problem $line.problem -Status ([int] $line.problem.status))
            }
        }
    } finally {
        if ($reader) { $reader.Dispose() }
        $response.Dispose()
    }
}

function Show-OpenCMGProgress {
    param([string] $Activity, $Progress)
    # What somebody has to do, such as a sign-in, must stay to be read.
    if ($Progress.step -eq 'sign-in') { Write-Warning -Message "$($Progress.text)" }
    $percent = [System.Math]::Max(0, [System.Math]::Min(100, [int] $Progress.percent))
    $status = "$($Progress.step): $($Progress.text)"
    if ($status -eq ': ') { $status = "$($Progress.activity)" }
    Write-Progress -Activity $Activity -Status $status -PercentComplete $percent
}

# An object as scripts know it: dates are dates in every PowerShell, and its type
# names say its class, which views go by.
function ConvertTo-OpenCMGObject {
    param($Value, $File)
    foreach ($property in @($Value.PSObject.Properties)) {
        if ($property.Value -is [string] -and $property.Value -match '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$') {
            $property.Value = [datetime]::Parse($property.Value, [System.Globalization.CultureInfo]::InvariantCulture, [System.Globalization.DateTimeStyles]::RoundtripKind)
        }
    }
    if ($File -and $Value.JoinToken) {
        $File.Writer.WriteLine($Value.JoinToken)
        $File.Written = $true
        $Value.PSObject.Properties.Remove('JoinToken')
    }
    if ($Value.ObjectClass) {
        $Value.PSTypeNames.Insert(0, "IResultObject#$($Value.ObjectClass)")
        $Value.PSTypeNames.Insert(0, "OpenCMG.$($Value.ObjectClass)")
    }
    $Value
}

# Reads a resource, for Connect-OpenCMG.
function Get-OpenCMGResource {
    param([hashtable] $Connection, [string] $Path)
    $response = Send-OpenCMGRequest -Connection $Connection -Path $Path
    try {
        $text = Wait-OpenCMGTask -Task ($response.Content.ReadAsStringAsync())
        if (-not $response.IsSuccessStatusCode) {
            throw (ConvertTo-OpenCMGException -Text $text -Status ([int] $response.StatusCode))
        }
        ConvertFrom-Json -InputObject $text
    } finally {
        $response.Dispose()
    }
}

# A new file that only this user can read, for a secret.
function New-OpenCMGSecretFile {
    param([string] $Path)
    $full = Resolve-OpenCMGPath -Path $Path
    if (Test-Path -LiteralPath $full) {
        throw (New-OpenCMGFailure -Message "-JoinTokenFile: $full exists already: name a new file.")
    }
    try {
        $stream = New-Object -TypeName 'System.IO.FileStream' -ArgumentList $full, ([System.IO.FileMode]::CreateNew)
    } catch {
        throw (New-OpenCMGFailure -Message "-JoinTokenFile: $full can not be made: $($_.Exception.GetBaseException().Message)")
    }
    if ([System.IO.Path]::DirectorySeparatorChar -eq '/') { & chmod '600' $full }
    @{ Path = $full; Writer = (New-Object -TypeName 'System.IO.StreamWriter' -ArgumentList $stream); Written = $false }
}

function Close-OpenCMGSecretFile {
    param([hashtable] $File)
    $File.Writer.Dispose()
    if (-not $File.Written) { Remove-Item -LiteralPath $File.Path }
}

# A problem document as an exception. $Text is the body of an answer, which is
# something else when it is not from the site.
function ConvertTo-OpenCMGException {
    param([string] $Text, $Problem, [int] $Status)
    if ($null -eq $Problem) {
        try { $Problem = ConvertFrom-Json -InputObject $Text -ErrorAction Stop } catch { $Problem = $null }
    }
    $message = "$($Problem.detail)"
    if (-not $message) { $message = "The site answered $Status $($Problem.title)".TrimEnd() + '.' }
    $next = "$($Problem.cloudError.nextStep)"
    foreach ($check in @($Problem.checks | Where-Object -FilterScript { $_.state -eq 'fail' })) {
        if (-not $message.Contains($check.name)) { $message += [System.Environment]::NewLine + "- $($check.name): $($check.evidence)" }
        if (-not $next) { $next = "$($check.nextStep)" }
    }
    if ($next -and -not $message.Contains($next)) { $message += [System.Environment]::NewLine + "Next: $next" }
    $id = "$($Problem.correlationId)"
    if ($Status -ge 500 -and $id) { $message += " (correlation ID $id)" }
    New-Object -TypeName 'OpenCMG.ProblemException' -ArgumentList $message, $Status, $id, $next, $Problem
}

# What went wrong here, before the site was asked.
function New-OpenCMGFailure {
    param([string] $Message, [int] $Status = 400, [string] $Next = '')
    if ($Next) { $Message += [System.Environment]::NewLine + "Next: $Next" }
    New-Object -TypeName 'OpenCMG.ProblemException' -ArgumentList $Message, $Status, '', $Next, $null
}

# What went wrong as PowerShell has it. The error ID is OpenCMG. and the kind.
function ConvertTo-OpenCMGError {
    param([System.Management.Automation.ErrorRecord] $From, $Target)
    $exception = $From.Exception
    $kind = 'Failed'
    $category = [System.Management.Automation.ErrorCategory]::NotSpecified
    $kinds = @{
        0 = 'Unreachable', 'ConnectionError'
        400 = 'Invalid', 'InvalidArgument'
        401 = 'Unauthorized', 'AuthenticationError'
        403 = 'Forbidden', 'PermissionDenied'
        404 = 'NotFound', 'ObjectNotFound'
        409 = 'Conflict', 'ResourceExists'
        412 = 'Stale', 'ResourceBusy'
        413 = 'TooLarge', 'LimitsExceeded'
        429 = 'TooMany', 'LimitsExceeded'
        503 = 'Unavailable', 'ResourceUnavailable'
        504 = 'Timeout', 'OperationTimeout'
    }
    $next = ''
    if ($exception -is [OpenCMG.ProblemException]) {
        $next = $exception.NextStep
        if ($kinds.ContainsKey($exception.Status)) {
            $kind = $kinds[$exception.Status][0]
            $category = [System.Management.Automation.ErrorCategory] $kinds[$exception.Status][1]
        }
    }
    $record = New-Object -TypeName 'System.Management.Automation.ErrorRecord' -ArgumentList $exception, "OpenCMG.$kind", $category, $Target
    # Most messages end with what to do next.
    if (-not $next) { $next = $exception.Message }
    $record.ErrorDetails = New-Object -TypeName 'System.Management.Automation.ErrorDetails' -ArgumentList $exception.Message
    $record.ErrorDetails.RecommendedAction = $next
    $record
}
