using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>A captured and stopped guest, and a QEMU that waits for its snapshot.</summary>
internal sealed class InstantPair : IAsyncDisposable
{
    /// <summary>
    /// A bandwidth at which a guest of <see cref="InstantMachines.Checking"/> has its memory after a quarter of a minute: enough time for
    /// the test to disturb it.
    /// </summary>
    public const string Slowly = "--bandwidth-limit=5Mi";

    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    private InstantPair(VirtualMachine source, string snapshot, VirtualMachine target) =>
        (Source, Snapshot, Target) = (source, snapshot, target);

    public VirtualMachine Source { get; }

    public string Snapshot { get; }

    public VirtualMachine Target { get; }

    /// <param name="options">The options of both machines.</param>
    /// <param name="before">What to do with the guest before the capture; the guest has completed one pass.</param>
    public static async Task<InstantPair> MakeAsync(VirtualMachineOptions options, Func<VirtualMachine, Task>? before = null)
    {
        var source = await Requirements.StartAsync(options);
        try
        {
            if (before is not null)
                await before(source);
            var snapshot = await InstantMachines.SnapshotAsync(source);
            return new InstantPair(source, snapshot, await VirtualMachine.StartAsync(options with { Incoming = "defer" }));
        }
        catch
        {
            await source.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts a restore; the caller waits for its output.</summary>
    public Task<AgentProcess> StartAsync(params IEnumerable<string> options) => InstantMachines.StartAsync(Snapshot, Target, options);

    /// <summary>Starts a restore, and waits until the guest runs.</summary>
    public Task<AgentProcess> RunAsync(params IEnumerable<string> options) => InstantMachines.RunAsync(Snapshot, Target, options);

    /// <summary>Waits until a restore has succeeded, with nothing left in QEMU and all of the guest's memory correct.</summary>
    public async Task<RestoreOutcome> AssertEndsWellAsync(AgentProcess agent)
    {
        var outcome = RestoreOutcome.Parse(await agent.WaitAsync(Patience));
        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{Target.Describe()}");
        InstantMachines.AssertNothingIsLeft(Target);
        await InstantMachines.AssertAllOfItIsRightAsync(Target);
        return outcome;
    }

    /// <summary>Continues the work that another process has left, and asserts the same success.</summary>
    public async Task<RestoreOutcome> AssertIsTakenOverAsync(string? snapshot = null)
    {
        var outcome = await InstantMachines.RestoreAsync(snapshot ?? Snapshot, Target);
        Assert.True(InstantMachines.InstantOf(outcome).GetProperty("takenOver").GetBoolean(), outcome.ToString());
        InstantMachines.AssertNothingIsLeft(Target);
        await InstantMachines.AssertAllOfItIsRightAsync(Target);
        return outcome;
    }

    public async ValueTask DisposeAsync()
    {
        await Target.DisposeAsync();
        await Source.DisposeAsync();
    }
}
