# The parameters as PowerShell sees them, against the documented facts.

BeforeDiscovery {
    $facts = Join-Path -Path $PSScriptRoot -ChildPath '../../../adminservice/cmdlet/testdata/cmdlets.json'
    $manifest = Import-PowerShellDataFile -Path (Join-Path -Path $PSScriptRoot -ChildPath '../OpenCMG.psd1')
    $documented = (ConvertFrom-Json -InputObject (Get-Content -Path $facts -Raw -Encoding UTF8)) |
        Where-Object -FilterScript { $manifest.FunctionsToExport -contains $_.name } |
        ForEach-Object -Process { @{ Name = $_.name; Facts = $_ } }
}

BeforeAll {
    Import-Module -Name (Join-Path -Path $PSScriptRoot -ChildPath '../OpenCMG.psd1') -Force
}

AfterAll {
    Remove-Module -Name 'OpenCMG'
}

Describe 'the module' {
    It 'exports every function of its manifest' {
        $manifest = Import-PowerShellDataFile -Path (Join-Path -Path $PSScriptRoot -ChildPath '../OpenCMG.psd1')
        $there = @((Get-Module -Name 'OpenCMG').ExportedFunctions.Keys | Sort-Object)
        $there | Should -Be @($manifest.FunctionsToExport | Sort-Object)
    }

    It 'has the type that documented scripts name' {
        [string] [Microsoft.ConfigurationManagement.AdminConsole.AzureServices.CertificateStore]::RootCA | Should -Be 'RootCA'
        [string] [Microsoft.ConfigurationManagement.AdminConsole.AzureServices.CertificateStore]::IntermediateCA | Should -Be 'IntermediateCA'
    }
}

Describe '<Name>' -ForEach $documented {
    BeforeAll {
        $command = Get-Command -Name $Name -Module 'OpenCMG'
    }

    It 'has a description and an example' {
        $help = Get-Help -Name $Name -Full
        $help.description | Should -Not -BeNullOrEmpty
        @($help.examples.example).Count | Should -BeGreaterThan 0
    }

    It 'has the documented default parameter set' {
        if ($Facts.defaultParameterSet -and $Facts.defaultParameterSet -ne '__AllParameterSets') {
            $command.DefaultParameterSet | Should -Be $Facts.defaultParameterSet
        }
    }

    It 'has the documented parameters' {
        foreach ($parameter in $Facts.parameters) {
            $there = $command.Parameters[$parameter.name]
            $there | Should -Not -BeNullOrEmpty -Because "-$($parameter.name) is documented"
            if ($parameter.common) { continue }
            @($there.Aliases | Sort-Object) -join ' ' | Should -Be (@($parameter.aliases | Sort-Object) -join ' ')
            $there.SwitchParameter | Should -Be $parameter.switch
            if ($parameter.type -eq 'SecureString') { $there.ParameterType | Should -Be ([securestring]) }
            foreach ($set in $parameter.sets.PSObject.Properties) {
                if ($set.Name -in 'ByNameReplica', 'ByValueReplica') { continue } # the same as the other two
                $seat = $there.ParameterSets[$set.Name]
                if (-not $seat) { $seat = $there.ParameterSets['__AllParameterSets'] }
                $seat | Should -Not -BeNullOrEmpty -Because "-$($parameter.name) is in $($set.Name)"
                $seat.IsMandatory | Should -Be $set.Value.required -Because "-$($parameter.name) in $($set.Name)"
                $seat.ValueFromPipeline | Should -Be ($parameter.acceptsPipeline -eq 'ByValue')
                if ($null -ne $set.Value.position) {
                    $seat.Position | Should -Be $set.Value.position
                } else {
                    $seat.Position | Should -Be ([int]::MinValue)
                }
            }
        }
    }
}
