# Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit.

function New-CMSchedule {
    <#
    .SYNOPSIS
    Make the schedule object that the discovery parameters of the Azure service take.

    .DESCRIPTION
    Make the schedule object that the discovery parameters of the Azure service take.

    The same on the command line: opencmg schedule create
    It runs at the site that Connect-OpenCMG has chosen, with the role of who is signed in there.

    .PARAMETER DayOfMonth
    Day of the month; 0 is the last day.

    .PARAMETER DayOfWeek
    Week day. One of Sunday, Monday, Tuesday, Wednesday, Thursday, Friday, Saturday.

    .PARAMETER DurationCount
    Length of the event.

    .PARAMETER DurationInterval
    Unit of the length. One of Minutes, Hours, Days.

    .PARAMETER End
    Last moment.

    .PARAMETER IsUtc
    Times are UTC.

    .PARAMETER LastDayOfMonth
    Last day of each month.

    .PARAMETER Nonrecurring
    Runs once.

    .PARAMETER OffsetDay
    Days of offset from the monthly week day.

    .PARAMETER RecurCount
    Number of intervals between runs.

    .PARAMETER RecurInterval
    Unit of the interval. One of Minutes, Hours, Days.

    .PARAMETER ScheduleString
    Emit the token as a string.

    .PARAMETER Start
    First run.

    .PARAMETER WeekOrder
    Which week of the month. One of Last, First, Second, Third, Fourth.

    .PARAMETER DisableWildcardHandling
    Take wildcard characters literally. Not together with ForceWildcardHandling.

    .PARAMETER ForceWildcardHandling
    Expand wildcard characters (documented as not recommended). Not together with DisableWildcardHandling.

    .EXAMPLE
    $schedule = New-CMSchedule -RecurInterval Days -RecurCount 2
    Set-CMCloudManagementAzureService -Name "Fourth Coffee" -UserDiscoverySchedule $schedule

    Every two days, for the discovery of users.

    .OUTPUTS
    IResultObject#SMS_ScheduleToken

    .NOTES
    Schedules are objects here: -ScheduleString is refused.

    .LINK
    docs/reference/schedule.md
    #>
    [CmdletBinding(PositionalBinding = $false, DefaultParameterSetName = 'RecurrenceNone', SupportsShouldProcess = $true)]
    [OutputType('IResultObject#SMS_ScheduleToken')]
    param(
        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDate', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDateWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDateWithEnd', Mandatory = $true)]
        [int] $DayOfMonth,

        [Parameter(ParameterSetName = 'RecurrenceWeekly', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceWeeklyWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceWeeklyWithEnd', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekday', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithEnd', Mandatory = $true)]
        [ValidateSet('Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday')]
        [string] $DayOfWeek,

        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDateWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceWeeklyWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceNoneWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonthWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceIntervalWithDuration', Mandatory = $true)]
        [int] $DurationCount,

        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDateWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceWeeklyWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceNoneWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonthWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceIntervalWithDuration', Mandatory = $true)]
        [ValidateSet('Minutes', 'Hours', 'Days')]
        [string] $DurationInterval,

        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDateWithEnd', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceWeeklyWithEnd', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithEnd', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceNoneWithEnd', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonthWithEnd', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceIntervalWithEnd', Mandatory = $true)]
        [datetime] $End,

        [Parameter()]
        [switch] $IsUtc,

        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonthWithDuration')]
        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonthWithEnd')]
        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonth')]
        [switch] $LastDayOfMonth,

        [Parameter(ParameterSetName = 'RecurrenceNone')]
        [Parameter(ParameterSetName = 'RecurrenceNoneWithDuration')]
        [Parameter(ParameterSetName = 'RecurrenceNoneWithEnd')]
        [switch] $Nonrecurring,

        [Parameter(ParameterSetName = 'RecurMonthlyByWeekday')]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithDuration')]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithEnd')]
        [int] $OffsetDay,

        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDate')]
        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDateWithDuration')]
        [Parameter(ParameterSetName = 'RecurrenceMonthlyByDateWithEnd')]
        [Parameter(ParameterSetName = 'RecurrenceWeekly')]
        [Parameter(ParameterSetName = 'RecurrenceWeeklyWithDuration')]
        [Parameter(ParameterSetName = 'RecurrenceWeeklyWithEnd')]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekday')]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithDuration')]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithEnd')]
        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonthWithDuration')]
        [Parameter(ParameterSetName = 'RecurrenceIntervalWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonthWithEnd')]
        [Parameter(ParameterSetName = 'RecurrenceIntervalWithEnd', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyLastDayOfMonth')]
        [Parameter(ParameterSetName = 'RecurrenceInterval', Mandatory = $true)]
        [int] $RecurCount,

        [Parameter(ParameterSetName = 'RecurrenceIntervalWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceIntervalWithEnd', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurrenceInterval', Mandatory = $true)]
        [ValidateSet('Minutes', 'Hours', 'Days')]
        [string] $RecurInterval,

        [Parameter()]
        [switch] $ScheduleString,

        [Parameter()]
        [datetime] $Start,

        [Parameter(ParameterSetName = 'RecurMonthlyByWeekday', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithDuration', Mandatory = $true)]
        [Parameter(ParameterSetName = 'RecurMonthlyByWeekdayWithEnd', Mandatory = $true)]
        [ValidateSet('Last', 'First', 'Second', 'Third', 'Fourth')]
        [string] $WeekOrder,

        [Parameter()]
        [switch] $DisableWildcardHandling,

        [Parameter()]
        [switch] $ForceWildcardHandling
    )
    process {
        Invoke-OpenCMGCmdlet -Cmdlet $PSCmdlet -Parameters $PSBoundParameters
    }
}
