using System.Text.Json.Nodes;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>Operator, agent and API server may fail at any moment: the guest runs on, and the status becomes correct in the end.</summary>
[Collection(nameof(RealCluster))]
public sealed class OutageTests(ClusterFixture cluster) : IAsyncLifetime
{
    private const string Slow = "capture: { bandwidthLimit: 8Mi }";

    public Task InitializeAsync() => cluster.TidiedAsync();

    public Task DisposeAsync() => Task.CompletedTask;

    [SkippableFact]
    public async Task An_operator_killed_at_each_step_continues_from_there()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await lab.ClaimAsync();
        await lab.StartVmAsync();
        foreach (var (step, phase) in ((string, string)[])[("a", ""), ("b", "Preparing"), ("c", "Capturing"), ("d", "Ready")])
        {
            await lab.ApplyAsync(Lab.Snapshot(step, more: Slow));
            if (phase.Length > 0)
                await lab.UntilAsync(step, phase, s => Lab.Phase(s) == phase || Lab.Phase(s) == "Ready");
            foreach (var pod in await KillAsync("operator"))
            {
                // The kubelet waits longer before each restart of a container, up to 5 min: a new pod starts at once.
                await cluster.Kubectl.RunAsync("-n", ClusterFixture.Namespace, "delete", "pod", pod, "--grace-period=0", "--force");
            }
            await lab.ReadyAsync(step, TimeSpan.FromSeconds(180));
            await lab.NoHelpersAsync();
        }
        Assert.Equal(4, Directory.GetDirectories(Path.Join(lab.Files, "snapshots")).Length);
        await lab.CountsAsync("vm");
    }

    [SkippableFact]
    public async Task An_agent_deleted_in_the_middle_fails_the_snapshot_and_the_next_succeeds()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("stopped", more: Slow));
        await lab.UntilAsync("stopped", "a cut", s => s["status"]?["pointInTime"] is not null);
        await cluster.Kubectl.RunAsync("-n", ClusterFixture.Namespace, "delete", "pod", "-l", "app.kubernetes.io/component=agent");
        await lab.FailedAsync("stopped", "AgentStopped");
        await lab.CountsAsync("vm");
        await cluster.InstalledAsync();

        // Killed: the agent reports nothing, and the next agent finds out.
        await lab.ApplyAsync(Lab.Snapshot("killed", more: Slow));
        await lab.UntilAsync("killed", "a cut", s => s["status"]?["pointInTime"] is not null);
        await KillAsync("agent");
        await lab.FailedAsync("killed", "AgentRestarted", TimeSpan.FromSeconds(180));
        await lab.CountsAsync("vm");
        Assert.Empty(Directory.GetFileSystemEntries(claim));

        await lab.ApplyAsync(Lab.Snapshot("retry"));
        await lab.ReadyAsync("retry");
        await lab.NoHelpersAsync();
    }

    [SkippableFact]
    public async Task A_capture_survives_an_outage_of_the_API_server()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("outage", more: Slow));
        await lab.UntilAsync("outage", "a cut", s => s["status"]?["pointInTime"] is not null);
        await ClusterFixture.ScriptAsync("hack/cluster", TimeSpan.FromMinutes(1), "stop-apiserver");
        try
        {
            await Task.Delay(TimeSpan.FromSeconds(20));
        }
        finally
        {
            await ClusterFixture.ScriptAsync("hack/cluster", TimeSpan.FromMinutes(1), "start-apiserver");
        }
        var snapshot = await lab.ReadyAsync("outage", TimeSpan.FromSeconds(180));
        (await Command.RunAsync(Repository.Agent, ["verify", Path.Join(claim, snapshot["status"]!["directory"]!.GetValue<string>())])).Ok();
        await lab.CountsAsync("vm");
        await cluster.InstalledAsync();
    }

    [SkippableFact]
    public async Task Of_two_operators_one_leads_and_the_other_takes_over()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await lab.ClaimAsync();
        await lab.StartVmAsync();
        await cluster.Kubectl.RunAsync("-n", ClusterFixture.Namespace, "scale", "deployment/bgsnap-operator", "--replicas=2");
        try
        {
            await cluster.InstalledAsync();
            var leader = await LeaderAsync(_ => true);
            await KillAsync("operator", leader);
            var start = DateTime.UtcNow;
            var next = await LeaderAsync(l => l != leader && l.Length > 0);
            Assert.True(DateTime.UtcNow - start < TimeSpan.FromSeconds(30), $"{DateTime.UtcNow - start} until {next} led");
            await lab.ApplyAsync(Lab.Snapshot("led"));
            await lab.ReadyAsync("led");
        }
        finally
        {
            await cluster.Kubectl.RunAsync("-n", ClusterFixture.Namespace, "scale", "deployment/bgsnap-operator", "--replicas=1");
            await cluster.InstalledAsync();
        }
    }

    // Kills the containers' processes as a crash does; with a holder, only in the pod whose name is the start of it.
    private async Task<List<string>> KillAsync(string component, string? holder = null)
    {
        List<string> killed = [];
        foreach (var pod in await PodsAsync(component))
        {
            if (holder is not null && !holder.StartsWith(pod, StringComparison.Ordinal))
                continue;
            await Processes.KillAsync(cluster.Kubectl, ClusterFixture.Namespace, pod);
            killed.Add(pod);
        }
        Assert.NotEmpty(killed);
        return killed;
    }

    private async Task<List<string>> PodsAsync(string component)
    {
        var pods = (JsonArray)
            (await cluster.Kubectl.GetAsync("-n", ClusterFixture.Namespace, "pods", "-l", $"app.kubernetes.io/component={component}"))[
                "items"
            ]!;
        return [.. pods.Select(p => p!["metadata"]!["name"]!.GetValue<string>())];
    }

    private async Task<string> LeaderAsync(Func<string, bool> wanted) =>
        (
            await cluster.Kubectl.UntilAsync(
                "a leader",
                l => wanted(l["spec"]!["holderIdentity"]?.GetValue<string>() ?? ""),
                TimeSpan.FromSeconds(60),
                "-n",
                ClusterFixture.Namespace,
                "lease",
                "bgsnap-operator"
            )
        )["spec"]!["holderIdentity"]!.GetValue<string>();
}
