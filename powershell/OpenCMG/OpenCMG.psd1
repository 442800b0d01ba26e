# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.
@{
    RootModule = 'OpenCMG.psm1'
    ModuleVersion = '0.1.0'
    GUID = '6b0f4c1e-57d2-4f0a-9d3b-2a8e71c4d905'
    Author = 'The OpenCMG authors'
    CompanyName = 'OpenCMG'
    Copyright = 'The OpenCMG authors. Licensed under the Apache License 2.0.'
    Description = 'The cmdlets of Configuration Manager for cloud management gateways, for a site of OpenCMG.'
    PowerShellVersion = '5.1'
    # Of Windows PowerShell: older ones can not be told which server certificate to trust.
    DotNetFrameworkVersion = '4.7.1'
    CompatiblePSEditions = @('Desktop', 'Core')
    FormatsToProcess = @('OpenCMG.Format.ps1xml')
    FunctionsToExport = @(
        'Add-CMCloudManagementGatewayConnectionPoint'
        'Add-CMManagementPoint'
        'Add-CMSoftwareUpdatePoint'
        'Block-CMCertificate'
        'Connect-OpenCMG'
        'Disconnect-OpenCMG'
        'Get-CMAADApplication'
        'Get-CMAADTenant'
        'Get-CMAzureService'
        'Get-CMBoundaryGroupSiteSystem'
        'Get-CMCertificate'
        'Get-CMClientSetting'
        'Get-CMCloudManagementGateway'
        'Get-CMCloudManagementGatewayConnectionPoint'
        'Get-CMServiceConnectionPoint'
        'Get-CMSiteRole'
        'Get-CMSiteSystemServer'
        'Get-CMTrustedRootCertificate'
        'Import-CMAADClientApplication'
        'Import-CMAADServerApplication'
        'New-CMAADClientApplication'
        'New-CMAADServerApplication'
        'New-CMBoundaryGroup'
        'New-CMCloudManagementAzureService'
        'New-CMCloudManagementGateway'
        'New-CMSchedule'
        'Remove-CMAzureService'
        'Remove-CMCloudManagementGateway'
        'Remove-CMCloudManagementGatewayConnectionPoint'
        'Set-CMBoundaryGroup'
        'Set-CMClientSetting'
        'Set-CMClientSettingCloudService'
        'Set-CMCloudManagementAzureService'
        'Set-CMCloudManagementGateway'
        'Set-CMCloudManagementGatewayConnectionPoint'
        'Set-CMDefaultBoundaryGroup'
        'Set-CMManagementPoint'
        'Set-CMSoftwareUpdatePoint'
        'Set-UpdateServerApplication'
        'Start-CMCloudManagementGateway'
        'Stop-CMCloudManagementGateway'
        'Sync-CMCloudManagementGateway'
        'Unblock-CMCertificate'
    )
    CmdletsToExport = @()
    VariablesToExport = @()
    AliasesToExport = @()
    FileList = @(
        'OpenCMG.psd1'
        'OpenCMG.psm1'
        'OpenCMG.Format.ps1xml'
        'Connection.ps1'
        'Invoke.ps1'
        'Types.cs'
        'Cmdlets/application.ps1'
        'Cmdlets/azure-service.ps1'
        'Cmdlets/tenant.ps1'
        'Cmdlets/schedule.ps1'
        'Cmdlets/gateway.ps1'
        'Cmdlets/connection-point.ps1'
        'Cmdlets/management-point.ps1'
        'Cmdlets/software-update-point.ps1'
        'Cmdlets/client-setting.ps1'
        'Cmdlets/boundary-group.ps1'
        'Cmdlets/service-connection-point.ps1'
        'Cmdlets/site-system.ps1'
        'Cmdlets/site-role.ps1'
        'Cmdlets/certificate.ps1'
    )
    PrivateData = @{
        PSData = @{
            Tags = @('ConfigurationManager', 'CMG', 'Windows', 'Linux', 'MacOS')
        }
    }
}
