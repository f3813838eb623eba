using Xunit.Abstractions;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>A restore into a new VM that succeeds.</summary>
public sealed class MachineReadyCrashTests(ITestOutputHelper output) : MachineCrashes(output)
{
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task One_VM_runs_from_disks_written_once_whichever_request_fails(string name) => await EachRequest(name, ToReady, 25);
}

/// <summary>A restore into a new VM that fails.</summary>
public sealed class MachineFailedCrashTests(ITestOutputHelper output) : MachineCrashes(output)
{
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_restore_that_fails_leaves_nothing_whichever_request_fails(string name) => await EachRequest(name, ToFailed, 20);
}

/// <summary>A restore into a new VM that the user deletes.</summary>
public sealed class MachineDeletedCrashTests(ITestOutputHelper output) : MachineCrashes(output)
{
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_deleted_running_restore_leaves_nothing_whichever_request_fails(string name) => await EachRequest(name, Deleted, 8);
}

/// <summary>A VM that is put back.</summary>
public sealed class MachinePutBackCrashTests(ITestOutputHelper output) : MachineCrashes(output)
{
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_VM_that_is_put_back_runs_as_captured_whichever_request_fails(string name) =>
        await EachRequest(name, (fault, what) => PutBack(fault, what, comesToRun: true), 25);
}

/// <summary>A VM that cannot be put back.</summary>
public sealed class MachineNotPutBackCrashTests(ITestOutputHelper output) : MachineCrashes(output)
{
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_VM_that_cannot_be_put_back_gets_its_former_spec_whichever_request_fails(string name) =>
        await EachRequest(name, (fault, what) => PutBack(fault, what, comesToRun: false), 25);
}
