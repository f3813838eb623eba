using System.Text.Json.Nodes;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>
/// The guest runs first, and its RAM arrives as the guest touches it; whatever is lost meanwhile, the guest at worst waits.
/// </summary>
[Collection(nameof(RealCluster))]
public sealed class InstantRestoreTests(ClusterFixture cluster) : IAsyncLifetime
{
    // At this rate the guest's 64 MiB and its kernel take half a minute; what the guest touches arrives at once.
    private const string Slow = "mode: Instant\n  bandwidthLimit: 1Mi";

    public Task InitializeAsync() => cluster.TidiedAsync();

    public Task DisposeAsync() => Task.CompletedTask;

    [SkippableFact]
    public async Task It_is_Ready_when_the_guest_runs_and_Resident_when_all_RAM_has_arrived()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, _, before, after) = await LostMachineAsync(lab);

        await machine.ApplyRestoreAsync("back", "s", With("mode: Instant"));
        var status = (await machine.ReadyAsync("back"))["status"]!;

        Assert.Equal(("Instant", "100%"), (status["mode"]!.GetValue<string>(), status["progress"]!["text"]!.GetValue<string>()));
        Assert.Equal("True", Lab.Condition(status.Parent!, "Resident")!["status"]!.GetValue<string>());
        Assert.True(status["faults"]!["count"]!.GetValue<long>() > 0, status.ToJsonString());
        await lab.CountsAsync("back");
        Assert.InRange(await lab.FirstTickAsync("back"), before, after + 1);
        await lab.NoHelpersAsync();
    }

    [SkippableFact]
    public async Task An_agent_that_is_replaced_in_the_middle_leaves_the_guest_waiting_at_most()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, _, before, after) = await LostMachineAsync(lab);
        await machine.ApplyRestoreAsync("back", "s", With(Slow));
        await cluster.Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", "vmbgr/back", "--timeout=120s");

        // Once deleted gracefully, and once killed.
        await cluster.Kubectl.RunAsync("-n", ClusterFixture.Namespace, "delete", "pod", "-l", "app.kubernetes.io/component=agent");
        await cluster.InstalledAsync();
        await lab.CountsAsync("back");
        var agent = (await cluster.Kubectl.GetAsync("-n", ClusterFixture.Namespace, "pods", "-l", "app.kubernetes.io/component=agent"))[
            "items"
        ]![0]!["metadata"]!["name"]!.GetValue<string>();
        await Processes.KillAsync(cluster.Kubectl, ClusterFixture.Namespace, agent);
        await cluster.InstalledAsync();

        await machine.ReadyAsync("back");
        await lab.CountsAsync("back");
        Assert.InRange(await lab.FirstTickAsync("back"), before, after + 1);
        await lab.NoHelpersAsync();
    }

    [SkippableFact]
    public async Task Deleting_the_restore_or_its_carrier_does_not_cost_the_guest_its_RAM()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, _, _, _) = await LostMachineAsync(lab);
        await machine.ApplyRestoreAsync("back", "s", With(Slow));
        await cluster.Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", "vmbgr/back", "--timeout=120s");

        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "pods", "-l", "app.kubernetes.io/managed-by=bgsnap", "--grace-period=1");
        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgr", "back", "--timeout=170s");

        // The restore is gone once all RAM has arrived, and has left what runs.
        await lab.NoHelpersAsync();
        await lab.CountsAsync("back");
    }

    [SkippableFact]
    public async Task A_damaged_snapshot_makes_the_guest_wait_until_it_is_repaired()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, directory, before, after) = await LostMachineAsync(lab);
        var memory = Path.Join(directory, "memory");
        Damage.Flip(memory);

        await machine.ApplyRestoreAsync("back", "s", With("mode: Instant"));
        var waits = await machine.UntilAsync("back", "waits", r =>
            Lab.Condition(r, "Resident")?["reason"]?.GetValue<string>() == "SnapshotUnreadable"
        );

        Assert.Equal("True", Lab.Condition(waits, "Ready")!["status"]!.GetValue<string>());
        Assert.Contains("cannot be read", Lab.Condition(waits, "Resident")!["message"]!.GetValue<string>(), StringComparison.Ordinal);
        var events = await cluster.Kubectl.GetAsync(
            "-n",
            lab.Name,
            "events",
            "--field-selector",
            "involvedObject.name=back,involvedObject.kind=VMBackgroundRestore"
        );
        Assert.Contains("SnapshotUnreadable", events["items"]!.AsArray().Select(e => e!["reason"]!.GetValue<string>()));

        Damage.Flip(memory);
        await machine.ReadyAsync("back");
        await lab.CountsAsync("back");
        Assert.InRange(await lab.FirstTickAsync("back"), before, after + 1);
    }

    [SkippableFact]
    public async Task A_volume_with_a_dead_mount_is_remounted()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, directory, before, after) = await LostMachineAsync(lab);
        await using var volume = await MortalVolume.OverAsync(Path.GetDirectoryName(directory)!, lab.Files);
        await machine.ApplyRestoreAsync("back", "s", With(Slow));
        await cluster.Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", "vmbgr/back", "--timeout=120s");

        await volume.DieAndComeBackAsync();

        await machine.UntilAsync("back", "waits", r => Lab.Condition(r, "Resident")?["reason"]?.GetValue<string>() == "SnapshotUnreadable");
        // The agent waits for two minutes.
        await cluster.Kubectl.UntilAsync(
            "Resident",
            r => Lab.Phase(r) == "Ready",
            TimeSpan.FromMinutes(6),
            "-n",
            lab.Name,
            "vmbgr",
            "back"
        );
        await lab.CountsAsync("back");
        Assert.InRange(await lab.FirstTickAsync("back"), before, after + 1);
        await lab.NoHelpersAsync();
    }

    // A machine that was removed with its disks, and its snapshot s, with the ticks before and after the snapshot.
    private async Task<(DiskMachine Machine, string Directory, long Before, long After)> LostMachineAsync(Lab lab)
    {
        var machine = new DiskMachine(cluster, lab);
        var claim = await lab.ClaimAsync();
        await machine.StartAsync();
        var (snapshot, before, after) = await machine.SnapshotAsync("s");
        await machine.RemoveAsync();
        return (machine, Path.Join(claim, snapshot["status"]!["directory"]!.GetValue<string>()), before, after);
    }

    private static Func<string, string> With(string more) =>
        yaml => yaml.Replace("  deadline: 30m\n", $"  deadline: 30m\n  {more}\n", StringComparison.Ordinal);
}
