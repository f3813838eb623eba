using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Builds the orders to an agent.</summary>
internal static class TaskOf
{
    /// <summary>Capture the VM.</summary>
    /// <param name="snapshot">For which snapshot.</param>
    /// <param name="vm">The VM.</param>
    /// <param name="carrier">The pod that brought the claim.</param>
    /// <param name="objects">The VM's own objects, to be kept; null: none.</param>
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

    /// <summary>Remove the files.</summary>
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
