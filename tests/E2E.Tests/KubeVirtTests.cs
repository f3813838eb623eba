using System.Text.Json.Nodes;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>A VirtualMachine as the source, from a cluster without KubeVirt to a snapshot that is sound.</summary>
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
            Assert.Contains("install KubeVirt", Lab.Message(await lab.FailedAsync("too-early", "KubeVirtNotInstalled")), StringComparison.Ordinal);
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
        // The disk by the name that KubeVirt gives its device.
        Assert.True(File.Exists(Path.Join(directory, "disks", "ua-root.qcow2")));
        Assert.Equal("ua-root", status["disks"]![0]!["name"]!.GetValue<string>());
        var xml = (await Command.RunAsync(Repository.Agent, ["inspect", directory, "--domain-xml"])).Ok();
        Assert.Contains($"<name>{lab.Name}_{KubeVirtMachine.Name}</name>", xml, StringComparison.Ordinal);
        var kept = JsonNode.Parse((await Command.RunAsync(Repository.Agent, ["inspect", directory, "--objects"])).Ok())!["items"]!.AsArray();
        Assert.Equal(["VirtualMachine", "VirtualMachineInstance"], kept.Select(i => i!["kind"]!.GetValue<string>()));
        Assert.Equal("Manual", kept[0]!["spec"]!["runStrategy"]!.GetValue<string>());

        // A paused one waits, and one with a device that cannot be is refused.
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
}
