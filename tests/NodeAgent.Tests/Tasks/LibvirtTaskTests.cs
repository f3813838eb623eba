using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.NodeAgent.Tests.Tasks;

/// <summary>Tasks whose VM runs under libvirt: which process the task means, and which arguments the capture gets.</summary>
public sealed class LibvirtTaskTests : IDisposable
{
    private const string Uuid = "5d307ca9-b3ef-428c-8861-06e72d69f223",
        Domain = "prod_db";
    private readonly FakeNode _node = new();

    public LibvirtTaskTests()
    {
        // A launcher runs another process beside QEMU.
        WriteCommandLine(_node.AddPod("launcher", "compute"), "/usr/bin/virt-launcher", "--name", "db", "--uid", Uuid);
    }

    public void Dispose() => _node.Dispose();

    [Theory]
    [InlineData(Uuid)]
    [InlineData("5D307CA9-B3EF-428C-8861-06E72D69F223")]
    [InlineData(null)]
    public async Task The_QEMU_of_the_domain_is_found_by_its_pod_name_and_uuid(string? uuid)
    {
        // The same machine in another pod, as during a migration within the node, and another machine in this pod.
        WriteCommandLine(_node.AddPod("other", "compute"), Qemu(Domain, Uuid));
        AddToLauncher(Qemu("prod_db2", Uuid));
        int pid = AddToLauncher(Qemu(Domain, Uuid));

        using TaskMonitor monitor = await _node.Places.OpenMonitor("ns", Target(uuid), default);

        Assert.Equal((pid, FakeNode.IdOf("launcher")), (monitor.Pid, monitor.ContainerId));
        Assert.Equal((null, pid), (monitor.Address.QmpSocket, monitor.Address.Pid));
    }

    [Theory]
    [InlineData("prod_db", "11111111-b3ef-428c-8861-06e72d69f223", Uuid)]
    [InlineData("prod_web", Uuid, Uuid)]
    [InlineData("prod_db", null, Uuid)]
    [InlineData("prod_db", Uuid, "no uuid")]
    public async Task Another_QEMU_is_not_taken_for_it(string name, string? uuid, string wanted)
    {
        AddToLauncher(Qemu(name, uuid));
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(() => _node.Places.OpenMonitor("ns", Target(wanted), default));
        Assert.Equal("SourceEnded", e.Reason);
        Assert.Contains(
            $"no QEMU of domain {Domain} ({wanted}) runs in container compute of pod launcher on node {FakeNode.Name}",
            e.Message,
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task Of_two_that_say_so_none_is_taken()
    {
        int[] both = [AddToLauncher(Qemu(Domain, Uuid)), AddToLauncher(Qemu(Domain, Uuid))];
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(() => _node.Places.OpenMonitor("ns", Target(Uuid), default));
        Assert.Equal("SourceAmbiguous", e.Reason);
        Assert.All(both, pid =>
            Assert.Contains(pid.ToString(System.Globalization.CultureInfo.InvariantCulture), e.Message, StringComparison.Ordinal)
        );
    }

    [Fact]
    public async Task A_pod_that_is_gone_has_ended()
    {
        _node.Api.Pods.Remove("launcher");
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(() => _node.Places.OpenMonitor("ns", Target(Uuid), default));
        Assert.Equal(("SourceEnded", "pod launcher is gone"), (e.Reason, e.Message));
    }

    [Fact]
    public async Task The_capture_is_told_the_process_and_the_VMs_objects()
    {
        const string objects = """{"apiVersion":"v1","kind":"List","items":[{"kind":"VirtualMachine","metadata":{"name":"grüße"}}]}""";
        int pid = AddToLauncher(Qemu(Domain, Uuid));
        _node.Capture(
            $$"""
            for argument; do case $argument in --objects=*) cat "${argument#--objects=}" >"$here/objects" ;; esac; done
            cp -r "$ready" "$out"
            echo '{{FakeNode.Summary}}'
            """
        );
        string scratch = Path.Join(_node.Claim, "..", "scratch");
        Directory.CreateDirectory(scratch);
        SnapshotTask task = FakeNode.CaptureTask();
        task.Spec.Source = Target(Uuid);
        task.Spec.Source.Objects = objects;

        SnapshotTaskStatus end = await new TaskWork(_node.Places, new Scratch(scratch, null), _node.Program).Do(
            task,
            new SnapshotTaskStatus(),
            _ => Task.CompletedTask,
            null,
            default,
            default
        );

        Assert.Equal(TaskPhase.Succeeded, end.Phase);
        string arguments = await File.ReadAllTextAsync(_node.Sign("arguments"));
        Assert.StartsWith($"capture --json --pid={pid} --container={FakeNode.IdOf("launcher")} ", arguments, StringComparison.Ordinal);
        Assert.DoesNotContain("--qmp", arguments, StringComparison.Ordinal);
        Assert.Equal(objects, await File.ReadAllTextAsync(_node.Sign("objects")));
        Assert.Empty(Directory.EnumerateFileSystemEntries(scratch));
    }

    private static VirtualMachineTarget Target(string? uuid) =>
        new()
        {
            PodName = "launcher",
            PodUID = FakeNode.UidOf("launcher"),
            Container = "compute",
            LibvirtDomain = Domain,
            Uuid = uuid,
        };

    private static string[] Qemu(string name, string? uuid) =>
        [
            "/usr/bin/qemu-kvm",
            "-name",
            $"guest={name},debug-threads=on",
            .. uuid is null ? Array.Empty<string>() : ["-uuid", uuid],
            "-mon",
            "chardev=charmonitor,id=monitor,mode=control",
        ];

    private int AddToLauncher(string[] words)
    {
        string root = _node.AddProcess($"0::/kubepods/burstable/pod{FakeNode.UidOf("launcher")}/{FakeNode.IdOf("launcher")}");
        WriteCommandLine(root, words);
        return int.Parse(Path.GetFileName(Path.GetDirectoryName(root)!), System.Globalization.CultureInfo.InvariantCulture);
    }

    private static void WriteCommandLine(string root, params string[] words) =>
        File.WriteAllText(Path.Join(root, "..", "cmdline"), string.Join('\0', words) + "\0");
}
