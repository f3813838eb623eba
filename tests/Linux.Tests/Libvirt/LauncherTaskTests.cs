using System.Xml.Linq;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>A task that names a launcher pod and a domain, carried out with a real libvirtd and QEMU.</summary>
public class LauncherTaskTests
{
    private const string Objects = """{"apiVersion":"v1","kind":"List","items":[{"kind":"VirtualMachine","metadata":{"name":"db"}}]}""";

    [SkippableFact]
    public async Task The_VM_is_captured_with_what_it_takes_to_make_it_anew()
    {
        await using var machine = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting());
        await LibvirtCaptures.WarmUpAsync(machine);
        var before = await LibvirtTraces.TakeAsync(machine);
        using LauncherNode node = new(machine);
        var task = node.Task("db-0900", new CaptureSpec { Disks = new DiskSelection { Select = "None" } });
        task.Spec.Source!.Objects = Objects;

        var end = await node.Work.Do(
            task,
            new SnapshotTaskStatus(),
            _ => Task.CompletedTask,
            null,
            CancellationToken.None,
            CancellationToken.None
        );

        Assert.Equal((TaskPhase.Succeeded, "Agent"), (end.Phase, end.Result!.Engine));
        var snapshot = Path.Combine(node.Claim, "db-0900");
        var verdict = SnapshotImage.Judge(snapshot);
        Assert.True(verdict.IsOneCut && verdict.Writers.Count == 3, $"{verdict}");
        await machine.CountsOnAsync("capture");
        await before.AssertAsBeforeAsync(machine, "capture");
        Assert.Equal(Objects, await AskAsync("inspect", snapshot, "--objects"));
        _ = await AskAsync("verify", snapshot);
        var xml = await AskAsync("inspect", snapshot, "--domain-xml");
        Assert.Equal(
            (LibvirtMachine.Name, machine.Uuid.ToString()),
            (XElement.Parse(xml).Element("name")!.Value, XElement.Parse(xml).Element("uuid")!.Value)
        );

        // libvirt defines the same machine, including the addresses of its devices.
        await machine.Daemon.VirshAsync("suspend", LibvirtMachine.Name);
        var was = await MachineAsync("dumpxml", LibvirtMachine.Name, "--migratable");
        await machine.Daemon.VirshAsync("destroy", LibvirtMachine.Name);
        await machine.Daemon.VirshAsync("define", Path.Combine(snapshot, "domain.xml"), "--validate");
        Assert.Equal(was, await MachineAsync("dumpxml", LibvirtMachine.Name, "--inactive", "--migratable"));

        async Task<string> MachineAsync(params string[] words) =>
            XElement.Parse(await machine.Daemon.VirshAsync(words)).Element("devices")!.ToString();
    }

    [SkippableFact]
    public async Task A_guest_that_a_dead_agent_left_stopped_runs_when_its_task_is_found()
    {
        await using var machine = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting());
        await LibvirtCaptures.WarmUpAsync(machine);
        var before = await LibvirtTraces.TakeAsync(machine);
        using LauncherNode node = new(machine);
        using (var monitor = new MonitorAddress { LibvirtUri = machine.Daemon.Uri, Domain = LibvirtMachine.Name }.Open())
            StoppedGuestMark.Set(monitor);
        await machine.Daemon.VirshAsync("suspend", LibvirtMachine.Name);

        var e = await Assert.ThrowsAsync<TaskFailure>(() =>
            node.Work.Recover(node.Task("db-0900"), new SnapshotTaskStatus(), _ => Task.CompletedTask, CancellationToken.None)
        );

        Assert.Equal("AgentRestarted", e.Reason);
        await machine.CountsOnAsync("recovery");
        await before.AssertAsBeforeAsync(machine, "recovery");
    }

    [SkippableFact]
    public async Task A_VM_of_another_uuid_in_the_same_pod_is_left_alone()
    {
        await using var machine = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting());
        using LauncherNode node = new(machine);
        var task = node.Task("db-0900");
        task.Spec.Source!.Uuid = Guid.NewGuid().ToString();

        var e = await Assert.ThrowsAsync<TaskFailure>(() =>
            node.Work.Do(task, new SnapshotTaskStatus(), _ => Task.CompletedTask, null, CancellationToken.None, CancellationToken.None)
        );

        Assert.Equal("SourceEnded", e.Reason);
        Assert.Empty(Directory.EnumerateFileSystemEntries(node.Claim));
        await machine.CountsOnAsync("refusal");
    }

    private static async Task<string> AskAsync(params string[] words)
    {
        var result = await AgentProcess.RunAsync(TimeSpan.FromSeconds(60), words);
        Assert.True(result.ExitCode == 0, $"{result}");
        return result.StandardOutput;
    }
}
