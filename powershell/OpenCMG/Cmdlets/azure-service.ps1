# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function New-CMCloudManagementAzureService {
    <#
    .SYNOPSIS
    Create the site's "Cloud Management" Azure service, binding one server app and one client app, with optional user and group discovery.

    .DESCRIPTION
    Create the site's "Cloud Management" Azure service, binding one server app and one client app, with optional user and group discovery.

    The same on the command line: opencmg azure-service create
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AddGroupName
    Entra group names to discover; goes with EnableGroupDiscovery.

    .PARAMETER AzureEnvironmentOption
    Azure cloud that holds the registration or service. One of AzurePublicCloud, AzureUSGovernmentCloud, or any newer one.

    .PARAMETER ClientApp
    Client app object, as Get-CMAADApplication or Import-CMAADClientApplication returns it.

    .PARAMETER Description
    Free text.

    .PARAMETER EnableGroupDeltaDiscovery
    Whether group discovery also runs delta cycles.

    .PARAMETER EnableGroupDiscovery
    Whether Entra group discovery is on.

    .PARAMETER EnableUserDeltaDiscovery
    Whether user discovery also runs delta cycles.

    .PARAMETER EnableUserDiscovery
    Whether Entra user discovery is on.

    .PARAMETER GroupDeltaDiscoveryMins
    Minutes between group delta cycles.

    .PARAMETER GroupDiscoverySchedule
    Full group discovery schedule, an object from New-CMSchedule.

    .PARAMETER Name
    Name of the new service.

    .PARAMETER ServerApp
    Server app object, as Get-CMAADApplication or Import-CMAADServerApplication returns it.

    .PARAMETER UserDeltaDiscoveryMins
    Minutes between user delta cycles.

    .PARAMETER UserDiscoverySchedule
    Full user discovery schedule, an object from New-CMSchedule.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    $server = Get-CMAADApplication -TenantName "Fourth Coffee" -AppType ServerApplication -AppName "FcCmgServer"
    $client = Get-CMAADApplication -TenantName "Fourth Coffee" -AppType ClientApplication -AppName "FcCmgClient"
    New-CMCloudManagementAzureService -Name "Fourth Coffee" -Description "Cloud management" -ServerApp $server -ClientApp $client -AzureEnvironmentOption AzurePublicCloud

    From two recorded apps, in the global cloud.

    .OUTPUTS
    IResultObject#SMS_Azure_CloudService

    .LINK
    docs/reference/azure-service.md
    #>
    [CmdletBinding(PositionalBinding = $false, SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_Azure_CloudService')]
    param(
        [Parameter()]
        [Alias('AddGroupNames')]
        [string[]] $AddGroupName,

        [Parameter()]
        [ArgumentCompleter({
            param($commandName, $parameterName, $wordToComplete)
            @('AzurePublicCloud', 'AzureUSGovernmentCloud', 'AzureLab') -like "$wordToComplete*"
        })]
        [string] $AzureEnvironmentOption,

        [Parameter(Mandatory = $true)]
        [Alias('ClientApplication', 'NativeClientApplication')]
        [object] $ClientApp,

        [Parameter()]
        [string] $Description,

        [Parameter()]
        [bool] $EnableGroupDeltaDiscovery,

        [Parameter()]
        [bool] $EnableGroupDiscovery,

        [Parameter()]
        [bool] $EnableUserDeltaDiscovery,

        [Parameter()]
        [bool] $EnableUserDiscovery,

        [Parameter()]
        [int] $GroupDeltaDiscoveryMins,

        [Parameter()]
        [object] $GroupDiscoverySchedule,

        [Parameter(Mandatory = $true)]
        [string] $Name,

        [Parameter(Mandatory = $true)]
        [Alias('WebApp', 'WebApplication', 'ServerApplication')]
        [object] $ServerApp,

        [Parameter()]
        [int] $UserDeltaDiscoveryMins,

        [Parameter()]
        [object] $UserDiscoverySchedule,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Set-CMCloudManagementAzureService {
    <#
    .SYNOPSIS
    Change an existing Cloud Management Azure service: name, description, discovery settings, group list, group sync.

    .DESCRIPTION
    Change an existing Cloud Management Azure service: name, description, discovery settings, group list, group sync.

    The same on the command line: opencmg azure-service set
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER AddGroupName
    Entra group names to discover; goes with EnableGroupDiscovery.

    .PARAMETER DeleteGroupName
    Entra group names to stop discovering.

    .PARAMETER Description
    Free text.

    .PARAMETER EnableAADGroupSync
    Whether collections may be synchronised to Entra groups.

    .PARAMETER EnableGroupDeltaDiscovery
    Whether group discovery also runs delta cycles.

    .PARAMETER EnableGroupDiscovery
    Whether Entra group discovery is on.

    .PARAMETER EnableUserDeltaDiscovery
    Whether user discovery also runs delta cycles.

    .PARAMETER EnableUserDiscovery
    Whether Entra user discovery is on.

    .PARAMETER GroupDeltaDiscoveryMins
    Minutes between group delta cycles.

    .PARAMETER GroupDiscoverySchedule
    Full group discovery schedule, an object from New-CMSchedule.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER Name
    Name of the object to act on.

    .PARAMETER NewName
    New name for the service.

    .PARAMETER PassThru
    Emit the changed object; without it the cmdlet may emit nothing.

    .PARAMETER UserDeltaDiscoveryMins
    Minutes between user delta cycles.

    .PARAMETER UserDiscoverySchedule
    Full user discovery schedule, an object from New-CMSchedule.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMAzureService -Name "Fourth Coffee" | Set-CMCloudManagementAzureService -NewName "FC cloud management" -Description "Tenant link for the gateway"

    Rename through the pipeline.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    With -PassThru the object; else nothing.

    .NOTES
    -EnableAADGroupSync $true is refused: a site has no collections that could be synchronised to groups.

    .LINK
    docs/reference/azure-service.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByValueMandatory', SupportsShouldProcess = $true)]
    param(
        [Parameter()]
        [Alias('AddGroupNames')]
        [string[]] $AddGroupName,

        [Parameter()]
        [Alias('DeleteGroupNames')]
        [string[]] $DeleteGroupName,

        [Parameter()]
        [string] $Description,

        [Parameter()]
        [bool] $EnableAADGroupSync,

        [Parameter()]
        [bool] $EnableGroupDeltaDiscovery,

        [Parameter()]
        [bool] $EnableGroupDiscovery,

        [Parameter()]
        [bool] $EnableUserDeltaDiscovery,

        [Parameter()]
        [bool] $EnableUserDiscovery,

        [Parameter()]
        [int] $GroupDeltaDiscoveryMins,

        [Parameter()]
        [object] $GroupDiscoverySchedule,

        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [int] $Id,

        [Parameter(ParameterSetName = 'SearchByValueMandatory', Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('AzureService')]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SearchByNameMandatory', Mandatory = $true)]
        [Alias('AzureServiceName')]
        [string] $Name,

        [Parameter()]
        [string] $NewName,

        [Parameter()]
        [switch] $PassThru,

        [Parameter()]
        [int] $UserDeltaDiscoveryMins,

        [Parameter()]
        [object] $UserDiscoverySchedule,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}

function Get-CMAzureService {
    <#
    .SYNOPSIS
    List the Azure services onboarded to the site, by name pattern or by integer ID.

    .DESCRIPTION
    List the Azure services onboarded to the site, by name pattern or by integer ID.

    The same on the command line: opencmg azure-service list
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER Name
    Name, or a pattern, of the services to return (as the Azure Services node shows it). May have wildcards.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Get-CMAzureService -Name "Fourth Coffee"

    By name.

    .EXAMPLE
    Get-CMAzureService -Id 3

    By ID.

    .OUTPUTS
    IResultObject#SMS_Azure_CloudService

    .LINK
    docs/reference/azure-service.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByName')]
    [OutputType('IResultObject#SMS_Azure_CloudService')]
    param(
        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [int] $Id,

        [Parameter(ParameterSetName = 'SearchByName')]
        [string] $Name,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters -Reads
    }
}

function Remove-CMAzureService {
    <#
    .SYNOPSIS
    Delete an onboarded Azure service from the site.

    .DESCRIPTION
    Delete an onboarded Azure service from the site.

    The same on the command line: opencmg azure-service remove
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER Force
    Do not ask for confirmation.

    .PARAMETER Id
    ID of the object to act on.

    .PARAMETER InputObject
    Object to act on.

    .PARAMETER Name
    Name of the object to act on.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    Remove-CMAzureService -Name "Fourth Coffee"

    By name.

    .EXAMPLE
    Remove-CMAzureService -Id 3 -Force

    By ID, no question asked.

    .EXAMPLE
    Get-CMAzureService -Name "Fourth Coffee" | Remove-CMAzureService

    Through the pipeline.

    .INPUTS
    Objects for -InputObject, one after the other.

    .OUTPUTS
    Nothing.

    .NOTES
    It asks before it deletes, unless -Force or -Confirm:$false is there.

    .LINK
    docs/reference/azure-service.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'SearchByValueMandatory', SupportsShouldProcess = $true, ConfirmImpact = 'High')]
    param(
        [Parameter()]
        [switch] $Force,

        [Parameter(ParameterSetName = 'SearchByIdMandatory', Mandatory = $true)]
        [Alias('AzureServiceId')]
        [int] $Id,

        [Parameter(ParameterSetName = 'SearchByValueMandatory', Mandatory = $true, ValueFromPipeline = $true)]
        [Alias('AzureService')]
        [object] $InputObject,

        [Parameter(ParameterSetName = 'SearchByNameMandatory', Mandatory = $true)]
        [string] $Name,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}
