using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>A snapshot that cannot be taken says why and names the remedy, and the guest runs on.</summary>
[Collection(nameof(RealCluster))]
public sealed class FailureTests(ClusterFixture cluster)
{
    private const string Slow = "capture: { bandwidthLimit: 4Mi }";

    [SkippableFact]
    public async Task A_missing_object_is_named_and_makes_the_snapshot_wait()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await lab.ApplyAsync(Lab.Snapshot("early"));
        var s = await lab.UntilAsync("early", "SourceNotFound", x => Lab.Reason(x) == "SourceNotFound");
        Assert.Contains("create it", Lab.Message(s), StringComparison.Ordinal);
        Assert.Equal("True", Lab.Condition(s, "Reconciling")!["status"]!.GetValue<string>());

        await lab.StartVmAsync();
        s = await lab.UntilAsync("early", "ClaimNotFound", x => Lab.Reason(x) == "ClaimNotFound");
        Assert.Contains("snapshots", Lab.Message(s), StringComparison.Ordinal);

        await lab.ClaimAsync();
        await lab.ReadyAsync("early");
        await lab.CountsAsync("vm");
    }

    [SkippableFact]
    public async Task A_pod_that_is_not_a_machine_is_refused()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await lab.ClaimAsync();
        await lab.StartVmAsync();
        await cluster.Kubectl.RunAsync("-n", lab.Name, "annotate", "pod/vm", "bgsnap.io/qmp-socket-");
        await lab.ApplyAsync(Lab.Snapshot("no-vm"));
        var s = await lab.FailedAsync("no-vm", "NotAVirtualMachine");
        Assert.Contains("bgsnap.io/qmp-socket", Lab.Message(s), StringComparison.Ordinal);
        Assert.Equal("True", Lab.Condition(s, "Stalled")!["status"]!.GetValue<string>());
        // The wait that docs/operations.md names ends on a failure too.
        await cluster.Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Reconciling=false", "vmbgs/no-vm", "--timeout=10s");

        await cluster.Kubectl.RunAsync("-n", lab.Name, "annotate", "pod/vm", "bgsnap.io/qmp-socket=/run/elsewhere.sock");
        await lab.ApplyAsync(Lab.Snapshot("no-socket"));
        s = await lab.FailedAsync("no-socket", "SocketNotFound");
        Assert.Contains("/run/elsewhere.sock", Lab.Message(s), StringComparison.Ordinal);
        await lab.NoHelpersAsync();
        await lab.CountsAsync("vm");
    }

    [SkippableFact]
    public async Task A_full_claim_is_named_and_nothing_stays_on_it()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync(tmpfsSize: "32m");
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("full"));
        var s = await lab.FailedAsync("full", "TargetFull");
        Assert.Contains("full", Lab.Message(s), StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(claim));
        await lab.CountsAsync("vm");
        await lab.NoHelpersAsync();
    }

    [SkippableFact]
    public async Task A_machine_that_ends_during_its_capture_fails_the_snapshot()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("gone", more: Slow));
        await lab.UntilAsync("gone", "a cut", x => x["status"]?["pointInTime"] is not null);
        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "pod", "vm", "--grace-period=0", "--force");
        var s = await lab.UntilAsync("gone", "Failed", x => Lab.Phase(x) == "Failed");
        Assert.Contains(Lab.Reason(s), (string[])["QemuGone", "QemuUnreachable", "SystemCallFailed"]);
        Assert.Empty(Directory.GetFileSystemEntries(claim));
    }

    [SkippableFact]
    public async Task A_VM_on_a_cordoned_node_is_captured()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await lab.ClaimAsync();
        await lab.StartVmAsync();
        var node = (await cluster.Kubectl.GetAsync("-n", lab.Name, "pod", "vm"))["spec"]!["nodeName"]!.GetValue<string>();
        await cluster.Kubectl.RunAsync("cordon", node);
        try
        {
            await lab.ApplyAsync(Lab.Snapshot("cordoned"));
            await lab.ReadyAsync("cordoned");
        }
        finally
        {
            await cluster.Kubectl.RunAsync("uncordon", node);
        }
    }

    [SkippableFact]
    public async Task A_capture_past_its_deadline_is_cancelled_and_the_guest_resumed()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("late", more: "capture: { bandwidthLimit: 1Mi, deadline: 12s }"));
        var s = await lab.FailedAsync("late", "DeadlineExceeded");
        Assert.Contains("12", Lab.Message(s), StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(claim));
        await lab.CountsAsync("vm");
        await lab.NoHelpersAsync();
    }

    [SkippableFact]
    public async Task Deleting_a_snapshot_during_its_capture_resumes_the_guest_and_leaves_nothing()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("broken-off", more: Slow));
        await lab.UntilAsync("broken-off", "progress", x => x["status"]?["progress"]?["percent"]?.GetValue<int>() > 0);
        await cluster.Kubectl.RunAsync("-n", lab.Name, "delete", "vmbgs", "broken-off", "--timeout=120s");
        Assert.Empty(Directory.GetFileSystemEntries(claim));
        await lab.CountsAsync("vm");
        await lab.NoHelpersAsync();

        // Afterwards the machine can be captured.
        await lab.ApplyAsync(Lab.Snapshot("again"));
        await lab.ReadyAsync("again");
    }
}
