using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Builds a snapshot's tasks for the agent.</summary>
internal static class TaskOf
{
    /// <summary>The task to capture the VM.</summary>
    /// <param name="snapshot">The snapshot.</param>
    /// <param name="vm">The VM.</param>
    /// <param name="carrier">The pod that mounts the claim.</param>
    /// <param name="objects">The VM's Kubernetes objects, to be stored; null: none.</param>
    public static SnapshotTask Capture(VMBackgroundSnapshot snapshot, SourceVm vm, PodSummary carrier, string? objects = null) =>
        new()
        {
            Metadata = Naming.Made(
                snapshot,
                Naming.Task(snapshot, TaskAction.Capture),
                (Names.NodeLabel, Names.NodeLabelValue(vm.NodeName))
            ),
            Spec = new SnapshotTaskSpec
            {
                Action = TaskAction.Capture,
                NodeName = vm.NodeName,
                Directory = Naming.Directory(snapshot),
                Carrier = Carrier(carrier),
                Source = vm.ToTarget(snapshot.Spec.Source.Name, objects),
                Capture = snapshot.Spec.Capture,
            },
        };

    /// <summary>The task to remove the files.</summary>
    public static SnapshotTask Delete(VMBackgroundSnapshot snapshot, PodSummary carrier)
    {
        string node = carrier.Spec!.NodeName!;
        return new SnapshotTask
        {
            Metadata = Naming.Made(snapshot, Naming.Task(snapshot, TaskAction.Delete), (Names.NodeLabel, Names.NodeLabelValue(node))),
            Spec = new SnapshotTaskSpec
            {
                Action = TaskAction.Delete,
                NodeName = node,
                Directory = snapshot.Status?.Directory ?? Naming.Directory(snapshot),
                Carrier = Carrier(carrier),
            },
        };
    }

    private static PodTarget Carrier(PodSummary carrier) =>
        new()
        {
            PodName = carrier.Metadata.Name,
            PodUID = carrier.Metadata.Uid,
            Container = Names.CarrierContainer,
        };
}
