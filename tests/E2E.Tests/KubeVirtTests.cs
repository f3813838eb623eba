using System.Text.Json.Nodes;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>A VirtualMachine as the source, from a cluster without KubeVirt to a sound snapshot.</summary>
[Collection(nameof(RealCluster))]
public sealed class KubeVirtTests(ClusterFixture cluster)
{
    [SkippableFact]
    public async Task A_VirtualMachine_is_captured_through_its_launchers_libvirt()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        if (!await KubeVirtMachine.IsServedAsync(cluster))
        {
            await lab.ApplyAsync(KubeVirtMachine.Snapshot("too-early"));
            Assert.Contains(
                "install KubeVirt",
                Lab.Message(await lab.FailedAsync("too-early", "KubeVirtNotInstalled")),
                StringComparison.Ordinal
            );
            await KubeVirtMachine.ServeAsync();
        }

        var machine = new KubeVirtMachine(cluster, lab);
        await machine.MakeAsync();
        await lab.ApplyAsync(KubeVirtMachine.Snapshot("one"));
        await lab.UntilAsync("one", "waiting for the VM to run", s => Lab.Reason(s) == "SourceNotRunning");
        await machine.StartAsync();

        var status = (await lab.ReadyAsync("one"))["status"]!;

        Assert.Equal((KubeVirtMachine.Pod, "Agent"), (status["podName"]!.GetValue<string>(), status["engine"]!.GetValue<string>()));
        await lab.CountsAsync(KubeVirtMachine.Pod);
        await lab.NoHelpersAsync();
        var directory = Path.Join(claim, status["directory"]!.GetValue<string>());
        (await Command.RunAsync(Repository.Agent, ["verify", directory])).Ok();
        // The disk has the name that KubeVirt gives its device.
        Assert.True(File.Exists(Path.Join(directory, "disks", "ua-root.qcow2")));
        Assert.Equal("ua-root", status["disks"]![0]!["name"]!.GetValue<string>());
        var xml = (await Command.RunAsync(Repository.Agent, ["inspect", directory, "--domain-xml"])).Ok();
        Assert.Contains($"<name>{lab.Name}_{KubeVirtMachine.Name}</name>", xml, StringComparison.Ordinal);
        var kept = JsonNode.Parse((await Command.RunAsync(Repository.Agent, ["inspect", directory, "--objects"])).Ok())![
            "items"
        ]!.AsArray();
        Assert.Equal(["VirtualMachine", "VirtualMachineInstance"], kept.Select(i => i!["kind"]!.GetValue<string>()));
        Assert.Equal("Manual", kept[0]!["spec"]!["runStrategy"]!.GetValue<string>());

        // A paused VM waits, and one with an unsupported device is refused.
        await machine.ChangeAsync("""{"status":{"conditions":[{"type":"Paused","status":"True","reason":"PausedByUser"}]}}""");
        await lab.ApplyAsync(KubeVirtMachine.Snapshot("paused", "VirtualMachineInstance"));
        await lab.UntilAsync("paused", "waiting for the VM to go on", s => Lab.Reason(s) == "Paused");
        await machine.ChangeAsync("""{"status":{"conditions":null}}""");
        await lab.ReadyAsync("paused");
        await machine.ChangeAsync("""{"spec":{"domain":{"devices":{"gpus":[{"name":"gpu1","deviceName":"nvidia.com/A10"}]}}}}""");
        await lab.ApplyAsync(KubeVirtMachine.Snapshot("gpu"));
        Assert.Contains("gpu gpu1", Lab.Message(await lab.FailedAsync("gpu", "DeviceUnsupported")), StringComparison.Ordinal);
        await lab.CountsAsync(KubeVirtMachine.Pod);
    }

    [SkippableTheory]
    [InlineData("Instant")]
    [InlineData("Stream")]
    public async Task A_lost_VirtualMachine_continues_as_another_one(string mode)
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, _) = await KubeVirtMachine.RunningAsync(cluster, lab);
        var before = (await lab.TickAsync(KubeVirtMachine.Pod)).Tick;
        await lab.ApplyAsync(KubeVirtMachine.Snapshot("one"));
        await lab.ReadyAsync("one", DiskMachine.Limit);
        var after = await lab.CountsAsync(KubeVirtMachine.Pod);
        await machine.RemoveAsync();

        await lab.VolumeAsync("again-root", withClaim: false);
        await lab.ApplyAsync(
            $$"""
            apiVersion: bgsnap.io/v1alpha1
            kind: VMBackgroundRestore
            metadata: { name: again }
            spec:
              snapshotName: one
              mode: {{mode}}
              target:
                virtualMachine:
                  name: again
                  claims: [{ volume: root, storageClassName: e2e }]
            """
        );
        var player = new KubeVirtPlayer(cluster, lab);
        var template = await player.StartAsync("again");

        Assert.Equal("again-root", template["spec"]!["volumes"]![0]!["persistentVolumeClaim"]!["claimName"]!.GetValue<string>());
        Assert.Equal(KubeVirtMachine.Uuid, template["spec"]!["domain"]!["firmware"]!["uuid"]!.GetValue<string>());
        var restored = new DiskMachine(cluster, lab);
        var ready = await restored.ReadyAsync("again");
        var pod = KubeVirtPlayer.Pod("again");
        Assert.Equal((pod, mode), (ready["status"]!["podName"]!.GetValue<string>(), ready["status"]!["mode"]!.GetValue<string>()));
        // RAM and disk are of one instant: the guest itself compares them, and counts every difference as corrupt.
        await lab.CountsAsync(pod);
        Assert.InRange(await lab.FirstTickAsync(pod), before, after + 1);
        await lab.NoHelpersAsync();

        // The VM belongs to its user again, as it was, and its next start boots from its disks.
        var vm = await cluster.Kubectl.GetAsync("-n", lab.Name, "virtualmachine", "again");
        Assert.Equal("Manual", vm["spec"]!["runStrategy"]!.GetValue<string>());
        Assert.Empty((vm["spec"]!["template"]!["metadata"]!["annotations"] as JsonObject) ?? []);
        foreach (var command in (string[])["suspend", "resume"])
            await machine.VirshAsync(pod, command, $"{lab.Name}_again");
        await lab.CountsAsync(pod);

        // It also ends like any other VM: by the power button, to which nothing in this guest listens, and by the plug.
        await machine.VirshAsync(pod, "shutdown", $"{lab.Name}_again");
        await machine.VirshAsync(pod, "destroy", $"{lab.Name}_again");
        Assert.Equal("", (await machine.VirshAsync(pod, "list", "--all", "--name")).Trim());
    }

    [SkippableFact]
    public async Task A_VirtualMachine_that_runs_is_stopped_and_put_back()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        await KubeVirtMachine.RunningAsync(cluster, lab);
        await lab.ApplyAsync(KubeVirtMachine.Snapshot("one"));
        await lab.ReadyAsync("one", DiskMachine.Limit);
        var captured = await lab.CountsAsync(KubeVirtMachine.Pod);
        while (await lab.CountsAsync(KubeVirtMachine.Pod) < captured + 5)
            ;
        var uid = await cluster.Kubectl.GetAsync("-n", lab.Name, "virtualmachine", KubeVirtMachine.Name);

        // The operator does not touch an existing VM unless the restore asks for that.
        await lab.ApplyAsync(Restore("not-asked", ""));
        Assert.Contains(
            "whenExists",
            await new DiskMachine(cluster, lab).FailedAsync("not-asked", "VirtualMachineExists"),
            StringComparison.Ordinal
        );
        await lab.CountsAsync(KubeVirtMachine.Pod);

        await lab.VolumeAsync("db-root-back", withClaim: false);
        await lab.ApplyAsync(Restore("back", ", whenExists: StopAndPutBack, claims: [{ volume: root, name: db-root-back }]"));
        var player = new KubeVirtPlayer(cluster, lab);
        await player.StopAsync(KubeVirtMachine.Name, KubeVirtMachine.Pod);
        await player.StartAsync(KubeVirtMachine.Name);
        var ready = await new DiskMachine(cluster, lab).ReadyAsync("back");

        var pod = KubeVirtPlayer.Pod(KubeVirtMachine.Name);
        Assert.Equal(pod, ready["status"]!["podName"]!.GetValue<string>());
        await lab.CountsAsync(pod);
        Assert.InRange(await lab.FirstTickAsync(pod), 1, captured + 1);
        var vm = await cluster.Kubectl.GetAsync("-n", lab.Name, "virtualmachine", KubeVirtMachine.Name);
        Assert.Equal(uid["metadata"]!["uid"]!.GetValue<string>(), vm["metadata"]!["uid"]!.GetValue<string>());
        Assert.Equal("Manual", vm["spec"]!["runStrategy"]!.GetValue<string>());
        Assert.Equal(
            "db-root-back",
            vm["spec"]!["template"]!["spec"]!["volumes"]![0]!["persistentVolumeClaim"]!["claimName"]!.GetValue<string>()
        );
        Assert.DoesNotContain(
            "bgsnap.io/virtual-machine-before",
            vm["metadata"]!["annotations"]?.ToJsonString() ?? "",
            StringComparison.Ordinal
        );
        // Its former claim still exists, and the new one has the same class.
        await cluster.Kubectl.GetAsync("-n", lab.Name, "pvc", "db-root");
        Assert.Equal(
            "e2e",
            (await cluster.Kubectl.GetAsync("-n", lab.Name, "pvc", "db-root-back"))["spec"]!["storageClassName"]!.GetValue<string>()
        );
        await lab.NoHelpersAsync();
    }

    private static string Restore(string name, string more) =>
        $$"""
            apiVersion: bgsnap.io/v1alpha1
            kind: VMBackgroundRestore
            metadata: { name: {{name}} }
            spec:
              snapshotName: one
              target: { virtualMachine: { name: {{KubeVirtMachine.Name}}{{more}} } }
            """;
}
