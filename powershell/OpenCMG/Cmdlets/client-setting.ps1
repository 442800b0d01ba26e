# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function Set-CMClientSettingCloudService {
    <#
    .SYNOPSIS
    Set the Cloud Services group of a client setting: whether clients may use a CMG and cloud content.

    .DESCRIPTION
    Set the Cloud Services group of a client setting: whether clients may use a CMG and cloud content.

    The same on the command line: opencmg client-setting set
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AllowCloudDistributionPoint
    Whether clients may fetch content from cloud sources.

    .PARAMETER AllowCloudManagementGateway
    Whether clients may use a CMG.

    .PARAMETER AutoAzureADJoin
    Whether Windows clients register with Entra ID by themselves.

    .PARAMETER DefaultSetting
    Act on the default client settings.

    .PARAMETER InputObject
    Client setting object.

    .PARAMETER Name
    Name of a custom client setting.

    .PARAMETER PassThru
    Emit the changed object; without it the cmdlet may emit nothing.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Set-CMClientSettingCloudService -DefaultSetting -AllowCloudManagementGateway $true

    Let every client use gateways.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    With -PassThru the object; else nothing.

    .LINK
    docs/reference/client-setting.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SetCustomSettingByName', SupportsShouldProcess = $true)]
    param(
        [Parameter()]
        [bool] $AllowCloudDistributionPoint,

        [Parameter()]
        [bool] $AllowCloudManagementGateway,

        [Parameter()]
        [bool] $AutoAzureADJoin,

        [Parameter(ParameterSetName = 'SetDefaultSetting')]
        [switch] $DefaultSetting,

        [Parameter(ParameterSetName = 'SetCustomSettingByValue', Mandatory = $true, ValueFromPipeline = $true)]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SetCustomSettingByName', Mandatory = $true)]
        [string] $Name,

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

function Get-CMClientSetting {
    <#
    .SYNOPSIS
    Read client settings; Cloud is the setting group for cloud services.

    .DESCRIPTION
    Read client settings; Cloud is the setting group for cloud services.

    The same on the command line: opencmg client-setting list
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Id
    Client setting ID.

    .PARAMETER Name
    Name, or a pattern, of the client setting. May have wildcards.

    .PARAMETER Setting
    Setting group to read; Cloud for cloud services. One of BackgroundIntelligentTransfer, Cloud, ClientCache, ClientPolicy, ComplianceSettings, ComputerAgent, ComputerRestart, DeliveryOptimization, EndpointProtection, HardwareInventory, MeteredNetwork, MobileDevice, NetworkAccessProtection, PowerManagement, RemoteTools, SoftwareCenter, SoftwareDeployment, SoftwareInventory, SoftwareMetering, SoftwareUpdates, StateMessaging, UserAndDeviceAffinity, WindowsAnalytics.

    .PARAMETER SettingType
    Default, device or user settings. One of Default, Device, User.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMClientSetting -Setting Cloud

    The settings for cloud services.

    .OUTPUTS
    IResultObject#SMS_ClientSettings

    .LINK
    docs/reference/client-setting.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByName')]
    [OutputType('IResultObject#SMS_ClientSettings')]
    param(
        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('SettingsId')]
        [string] $Id,

        [Parameter(ParameterSetName = 'SearchByName')]
        [string] $Name,

        [Parameter()]
        [ValidateSet('BackgroundIntelligentTransfer', 'Cloud', 'ClientCache', 'ClientPolicy', 'ComplianceSettings', 'ComputerAgent', 'ComputerRestart', 'DeliveryOptimization', 'EndpointProtection', 'HardwareInventory', 'MeteredNetwork', 'MobileDevice', 'NetworkAccessProtection', 'PowerManagement', 'RemoteTools', 'SoftwareCenter', 'SoftwareDeployment', 'SoftwareInventory', 'SoftwareMetering', 'SoftwareUpdates', 'StateMessaging', 'UserAndDeviceAffinity', 'WindowsAnalytics')]
        [string] $Setting,

        [Parameter()]
        [Alias('Type')]
        [ValidateSet('Default', 'Device', 'User')]
        [string] $SettingType,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Reads
    }
}

function Set-CMClientSetting {
    <#
    .SYNOPSIS
    Older combined cmdlet; its CloudService set knows only the cloud content option.

    .DESCRIPTION
    Older combined cmdlet; its CloudService set knows only the cloud content option.

    The same on the command line: opencmg Set-CMClientSetting
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AllowCloudDistributionPoint
    Whether clients may fetch content from cloud sources.

    .PARAMETER CloudService
    Select the Cloud Services group.

    .PARAMETER Name
    Name of the client setting.

    .PARAMETER PassThru
    Emit the changed object.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Set-CMClientSetting -Name "Home workers" -CloudService -AllowCloudDistributionPoint $true

    Allow content from cloud sources.

    .OUTPUTS
    With -PassThru the object; else nothing.

    .NOTES
    Its documented default parameter set is SetByName, of which nothing is documented. -Name, -CloudService and -AllowCloudDistributionPoint belong to SetCloudSettingsByName.

    .LINK
    docs/reference/client-setting.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SetByName', SupportsShouldProcess = $true)]
    param(
        [Parameter(ParameterSetName = 'SetCloudSettingsByName')]
        [bool] $AllowCloudDistributionPoint,

        [Parameter(ParameterSetName = 'SetCloudSettingsByName')]
        [Alias('CloudServicesSettings', 'CloudServices')]
        [switch] $CloudService,

        [Parameter(ParameterSetName = 'SetCloudSettingsByName', Mandatory = $true)]
        [string] $Name,

        [Parameter(ParameterSetName = 'SetCloudSettingsByName')]
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
