using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using k8s.Models;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>Objects to start a test with.</summary>
internal static class TestObjects
{
    internal const string Claim = "snapshots",
        Vm = "db",
        Node = "node-1";

    internal static VMBackgroundSnapshot Snapshot(string name, string vm = Vm, Action<SnapshotSpec>? change = null)
    {
        VMBackgroundSnapshot snapshot = new()
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = World.Namespace },
            Spec = new SnapshotSpec
            {
                Source = new SnapshotSource
                {
                    ApiGroup = "",
                    Kind = "Pod",
                    Name = vm,
                },
                Target = new SnapshotTarget { PersistentVolumeClaim = new ClaimReference { ClaimName = Claim } },
                DeletionPolicy = "Delete",
            },
        };
        change?.Invoke(snapshot.Spec);
        return snapshot;
    }

    internal static void WithTemplate(SnapshotSpec spec) => spec.Target = new SnapshotTarget { ClaimTemplate = new ClaimTemplate() };

    internal static V1PersistentVolumeClaim ClaimNamed(string name, string size = "10Gi", string phase = "Bound") =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = World.Namespace },
            Spec = new V1PersistentVolumeClaimSpec
            {
                Resources = new V1VolumeResourceRequirements
                {
                    Requests = new Dictionary<string, ResourceQuantity> { ["storage"] = new(size) },
                },
            },
            Status = new V1PersistentVolumeClaimStatus { Phase = phase },
        };

    /// <summary>A pod that runs a VM.</summary>
    internal static V1Pod VmPod(string name = Vm, string node = Node, Action<V1Pod>? change = null)
    {
        V1Pod pod = new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = World.Namespace,
                Annotations = new Dictionary<string, string> { [Names.QmpSocketAnnotation] = "/run/qmp.sock" },
            },
            Spec = new V1PodSpec
            {
                NodeName = node,
                Containers =
                [
                    new V1Container
                    {
                        Name = "qemu",
                        Resources = new V1ResourceRequirements
                        {
                            Limits = new Dictionary<string, ResourceQuantity> { ["memory"] = new("2Gi") },
                        },
                    },
                ],
            },
            Status = new V1PodStatus
            {
                Phase = "Running",
                ContainerStatuses =
                [
                    new V1ContainerStatus
                    {
                        Name = "qemu",
                        ContainerID = "containerd://abc",
                        State = new V1ContainerState { Running = new V1ContainerStateRunning() },
                    },
                ],
            },
        };
        change?.Invoke(pod);
        return pod;
    }

    /// <summary>A world with a running VM and a claim.</summary>
    internal static async Task<World> WithVm(OperatorOptions? options = null)
    {
        World world = new(options);
        await world.AddPod(VmPod());
        await world.AddClaim(ClaimNamed(Claim));
        return world;
    }
}
