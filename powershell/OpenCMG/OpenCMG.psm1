# The OpenCMG module: Configuration Manager's cmdlets for cloud management
# gateways, against the administration service of an OpenCMG site.
#
# Connection.ps1 says which site, Invoke.ps1 runs a cmdlet there, Types.cs is what
# needs C#. The cmdlets themselves (Cmdlets/*.ps1), the manifest and the views are
# generated from the program's table: go generate ./adminservice/cmdlet.

# Answers lack properties that do not apply, whatever mode the session is in.
Set-StrictMode -Off

# The type that documented scripts name; a console on this machine may have it.
if (-not ('Microsoft.ConfigurationManagement.AdminConsole.AzureServices.CertificateStore' -as [type])) {
    Add-Type -TypeDefinition @'
namespace Microsoft.ConfigurationManagement.AdminConsole.AzureServices
{
    public enum CertificateStore { RootCA, IntermediateCA }
}
'@
}
# A type can not be loaded twice, and stays when the module is removed.
if (-not ('OpenCMG.Body' -as [type])) {
    Add-Type -Path (Join-Path -Path $PSScriptRoot -ChildPath 'Types.cs') -IgnoreWarnings
}
Add-Type -AssemblyName 'System.Net.Http'

. (Join-Path -Path $PSScriptRoot -ChildPath 'Connection.ps1')
. (Join-Path -Path $PSScriptRoot -ChildPath 'Invoke.ps1')
foreach ($file in Get-ChildItem -Path (Join-Path -Path $PSScriptRoot -ChildPath 'Cmdlets') -Filter '*.ps1') {
    . $file.FullName
}

$ExecutionContext.SessionState.Module.OnRemove = { Disconnect-OpenCMG }
