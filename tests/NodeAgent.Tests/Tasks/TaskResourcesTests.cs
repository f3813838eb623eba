using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tasks;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Tasks;

public sealed class TaskResourcesTests : IDisposable
{
    private readonly FakeNode _node = new();

    public void Dispose() => _node.Dispose();

    [Theory]
    [InlineData("0::/kubepods/burstable/pod{0}/{1}")]
    [InlineData("0::/kubepods.slice/kubepods-pod{0}.slice/cri-containerd-{1}.scope")]
    [InlineData("12:memory:/other\n0::/kubepods/pod{0}/{1}")]
    public async Task A_claim_is_opened_through_the_root_of_its_carriers_process(string cgroup)
    {
        string claim = Path.Join(_node.AddPod("other", "c", cgroup), "snapshots");
        Directory.CreateDirectory(claim);
        await File.WriteAllTextAsync(Path.Join(claim, "here"), "");
        using SafeFileHandle opened = await _node.Places.OpenClaim("ns", FakeNode.Target("other", "c"), default);
        Assert.True(File.Exists(Path.Join(OpenInRoot.PathOf(opened), "here")));
    }

    [Fact]
    public async Task A_uid_with_dashes_is_found_in_systemds_spelling()
    {
        string uid = FakeNode.UidOf("s").Replace('-', '_');
        Directory.CreateDirectory(
            Path.Join(_node.AddPod("s", "c", $"0::/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{{1}}.scope"), "snapshots")
        );
        (await _node.Places.OpenClaim("ns", FakeNode.Target("s", "c"), default)).Dispose();
    }

    [Fact]
    public async Task Which_pod_is_meant_is_never_guessed()
    {
        _node.AddPod("elsewhere", "c");
        _node.Api.Pods["elsewhere"].Spec!.NodeName = "node-2";
        _node.AddPod("waiting", "c");
        _node.Api.Pods["waiting"].Status!.ContainerStatuses![0].State!.Running = null;
        _node.AddPod("unseen", "c", "0::/kubepods/burstable/pod{0}/another");
        _node.AddPod("stranger", "c", "0::/kubepods/burstable/podOTHER/{1}");
        PodTarget another = FakeNode.Target(FakeNode.Carrier, Names.CarrierContainer);
        another.PodUID = "of-an-earlier-one";
        foreach (
            (PodTarget target, string words) in new (PodTarget, string)[]
            {
                (FakeNode.Target("gone", "c"), "pod gone is gone"),
                (another, "pod carrier was replaced by another of its name"),
                (FakeNode.Target("elsewhere", "c"), "pod elsewhere does not run on node node-1"),
                (FakeNode.Target("waiting", "c"), "container c of pod waiting does not run"),
                (FakeNode.Target(FakeNode.Carrier, "third"), "container third of pod carrier does not run"),
                (FakeNode.Target("unseen", "c"), "no process of container c of pod unseen runs on node node-1"),
                (FakeNode.Target("stranger", "c"), "no process of container c of pod stranger runs on node node-1"),
            }
        )
        {
            TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(() => _node.Places.OpenClaim("ns", target, default));
            Assert.Equal("CarrierLost", e.Reason);
            Assert.Contains(words, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_socket_is_opened_within_its_container_whatever_its_links_say()
    {
        Directory.CreateDirectory(Path.Join(_node.VmRoot, "elsewhere"));
        File.WriteAllText(Path.Join(_node.VmRoot, "elsewhere", "real"), "");
        // Both links would lead out of the container if they were resolved outside it.
        File.CreateSymbolicLink(Path.Join(_node.VmRoot, "run", "absolute"), "/elsewhere/real");
        File.CreateSymbolicLink(Path.Join(_node.VmRoot, "run", "up"), "../../../../../elsewhere/real");
        foreach (string socket in new[] { "/run/qmp.sock", "/run/absolute", "/run/up" })
        {
            (SafeFileHandle opened, string id) = await _node.Places.OpenSocket("ns", FakeNode.VmTarget(socket), "SourceEnded", default);
            using (opened)
                Assert.StartsWith(_node.VmRoot, new FileInfo(OpenInRoot.PathOf(opened)).LinkTarget, StringComparison.Ordinal);
            Assert.Equal(FakeNode.IdOf(FakeNode.Vm), id);
        }
    }

    [Fact]
    public async Task A_missing_socket_is_said_with_the_remedy()
    {
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(() =>
            _node.Places.OpenSocket("ns", FakeNode.VmTarget("/run/none.sock"), "SourceEnded", default)
        );
        Assert.Equal("SocketNotFound", e.Reason);
        Assert.Contains("pod vm has no socket /run/none.sock in container qemu", e.Message, StringComparison.Ordinal);
        Assert.Contains(Names.QmpSocketAnnotation, e.Message, StringComparison.Ordinal);
        Assert.Contains("-qmp unix:/run/none.sock,server=on,wait=off", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_carrier_without_its_claim_is_lost_and_a_vm_that_is_gone_has_ended()
    {
        Directory.Delete(_node.Claim);
        TaskFailure e = await Assert.ThrowsAsync<TaskFailure>(() =>
            _node.Places.OpenClaim("ns", FakeNode.Target(FakeNode.Carrier, Names.CarrierContainer), default)
        );
        Assert.Equal("CarrierLost", e.Reason);
        _node.Api.Pods.Remove(FakeNode.Vm);
        e = await Assert.ThrowsAsync<TaskFailure>(() => _node.Places.OpenSocket("ns", FakeNode.VmTarget(), "SourceEnded", default));
        Assert.Equal(("SourceEnded", "pod vm is gone"), (e.Reason, e.Message));
    }
}
