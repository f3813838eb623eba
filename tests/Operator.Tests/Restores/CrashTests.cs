using Bgsnap.Operator.Tests.InMemory;
using Xunit.Abstractions;

namespace Bgsnap.Operator.Tests.Restores;

/// <summary>A restore that succeeds.</summary>
public sealed class ReadyCrashTests(ITestOutputHelper output) : Crashes(output)
{
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task One_guest_runs_from_disks_written_once_whichever_request_fails(string name) => await EachRequest(name, ToReady, 20);
}

/// <summary>A restore that fails.</summary>
public sealed class FailedCrashTests(ITestOutputHelper output) : Crashes(output)
{
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_restore_that_fails_leaves_nothing_whichever_request_fails(string name) => await EachRequest(name, ToFailed, 15);
}

/// <summary>A restore under way that the user deletes.</summary>
public sealed class DeletedCrashTests(ITestOutputHelper output) : Crashes(output)
{
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_deleted_running_restore_leaves_nothing_whichever_request_fails(string name) => await EachRequest(name, Deleted, 8);
}

/// <summary>A restore that the user deletes while the restored guest runs.</summary>
public sealed class DeletedLateCrashTests(ITestOutputHelper output) : Crashes(output)
{
    // The agent has finished, and the restore is deleted before the operator records that: the guest runs and is left alone.
    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_running_guest_is_left_alone_whichever_request_fails(string name) => await EachRequest(name, DeletedWhileItRuns, 3);
}

/// <summary>A restore in which many requests fail.</summary>
public sealed class ManyFaultsTests(ITestOutputHelper output) : Crashes(output)
{
    [Theory]
    [InlineData(7)]
    [InlineData(11)]
    public async Task It_becomes_Ready_although_one_request_in_two_fails_in_any_way(int seed)
    {
        Random random = new(seed);
        Fault[] kinds = [.. Enum.GetValues<Fault>()];
        await ToReady((_, _) => random.Next(2) == 0 ? Fault.None : kinds[random.Next(kinds.Length)], $"seed {seed}", 3000);
    }
}
