using System.Text.Json;
using Bgsnap.Crds.Kinds;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Shared;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>How the operator reads a VirtualMachineInstance as KubeVirt writes it.</summary>
public sealed class LauncherPodTests
{
    private const string Running = """
        {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"db","namespace":"prod","uid":"vmi"},
         "spec":{"domain":{"devices":{"disks":[{"name":"root","disk":{"bus":"virtio"}}],"interfaces":[{"name":"default","masquerade":{}}]}},
          "volumes":[{"name":"root","dataVolume":{"name":"db-root"}},{"name":"data","persistentVolumeClaim":{"claimName":"db-data"}},{"name":"init","cloudInitNoCloud":{"userData":""}}]},
         "status":{"phase":"Running","nodeName":"a","activePods":{"p1":"a"},"migrationState":{"completed":true,"targetNode":"a","startTimestamp":"2026-01-01T00:00:00Z"}}}
        """;

    private static readonly JsonSerializerOptions Web = JsonSerializerOptions.Web;

    [Fact]
    public void A_running_instance_has_its_launcher_pod_and_its_claims()
    {
        LauncherPod found = LauncherPod.Of(Read(Running), [Pod("p0", "a"), Pod("p1", "a"), Pod("p2", "b")]);

        Assert.Equal(("virt-launcher-db-p1", "p1", "a"), (found.PodName, found.PodUID, found.NodeName));
        Assert.Equal(("prod_db", null), (found.Domain, found.Uuid));
        Assert.Equal(new Dictionary<string, string> { ["root"] = "db-root", ["data"] = "db-data" }, found.Claims);
    }

    [Theory]
    [InlineData("\"phase\":\"Running\"", "\"phase\":\"Scheduling\"", "SourceNotRunning", "is not running yet (Scheduling)")]
    [InlineData("\"completed\":true,\"targetNode\":\"a\"", "\"targetNode\":\"b\"", "Migrating", "is migrating to node b")]
    [InlineData("\"completed\":true,\"targetNode\":\"a\",", "", "Migrating", "(not chosen yet)")]
    [InlineData("\"p1\":\"a\"", "\"p1\":\"b\"", "SourceNotRunning", "has 0 launcher pods running on node a")]
    public void The_capture_waits(string what, string becomes, string reason, string message)
    {
        NotReadyException e = Assert.Throws<NotReadyException>(() => LauncherPod.Of(Read(Change(what, becomes)), [Pod("p1", "a")]));
        Assert.Equal(reason, e.Reason);
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"phase\":\"Running\"", "\"phase\":\"Succeeded\"", "SourceEnded", "start the virtual machine")]
    [InlineData("\"uid\":\"vmi\"", "\"uid\":\"vmi\",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"", "SourceEnded", "is being deleted")]
    [InlineData(
        "\"devices\":{",
        "\"devices\":{\"gpus\":[{\"name\":\"gpu1\",\"deviceName\":\"nvidia.com/A10\"}],",
        "DeviceUnsupported",
        "gpu gpu1"
    )]
    [InlineData(
        "\"devices\":{",
        "\"devices\":{\"hostDevices\":[{\"name\":\"qat\",\"deviceName\":\"intel.com/qat\"}],",
        "DeviceUnsupported",
        "host device qat"
    )]
    [InlineData("\"masquerade\":{}", "\"sriov\":{}", "DeviceUnsupported", "SR-IOV interface default is passed through")]
    [InlineData(
        "\"masquerade\":{}",
        "\"binding\":{\"name\":\"vhostuser\"}",
        "DeviceUnsupported",
        "interface default uses " + "vhost-user: another"
    )]
    [InlineData(
        "\"devices\":{",
        "\"devices\":{\"filesystems\":[{\"name\":\"share\",\"virtiofs\":{}}],",
        "DeviceUnsupported",
        "filesystem share uses virtiofs: another"
    )]
    public void It_is_refused(string what, string becomes, string reason, string message)
    {
        TerminalException e = Assert.Throws<TerminalException>(() => LauncherPod.Of(Read(Change(what, becomes)), [Pod("p1", "a")]));
        Assert.Equal(reason, e.Reason);
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("virt-launcher", "a", true, true)]
    [InlineData("virt-handler", "a", true, false)]
    [InlineData("virt-launcher", "b", true, false)]
    [InlineData("virt-launcher", "a", false, false)]
    public void A_pod_is_the_launcher_only_if_every_field_matches(string label, string node, bool runs, bool taken)
    {
        PodSummary pod = Pod("p1", node, label, runs);
        if (taken)
            Assert.Equal("p1", LauncherPod.Of(Read(Running), [pod]).PodUID);
        else
            Assert.Throws<NotReadyException>(() => LauncherPod.Of(Read(Running), [pod]));
    }

    private static string Change(string what, string becomes)
    {
        Assert.Contains(what, Running, StringComparison.Ordinal);
        return Running.Replace(what, becomes, StringComparison.Ordinal);
    }

    private static VirtualMachineInstance Read(string json) => JsonSerializer.Deserialize<VirtualMachineInstance>(json, Web)!;

    private static PodSummary Pod(string uid, string node, string label = "virt-launcher", bool runs = true) =>
        new()
        {
            Metadata = new()
            {
                Name = $"virt-launcher-db-{uid}",
                Uid = uid,
                Labels = new Dictionary<string, string> { ["kubevirt.io"] = label, ["vm.kubevirt.io/name"] = "db" },
            },
            Spec = new() { NodeName = node },
            Status = new()
            {
                Phase = "Running",
                ContainerStatuses =
                [
                    new()
                    {
                        Name = "compute",
                        ContainerID = "containerd://1",
                        State = new() { Running = runs ? new() : null },
                    },
                ],
            },
        };
}
