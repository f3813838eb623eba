using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Builds a snapshot's tasks for the agent.</summary>
internal static class SnapshotTasks
{
    /// <summary>The task to capture the VM.</summary>
    /// <param name="snapshot">The snapshot.</param>
    /// <param name="vm">The VM.</param>
    /// <param name="carrier">The pod that mounts the claim.</param>
    /// <param name="objects">The VM's Kubernetes objects to store; null: the VM has none.</param>
    public static SnapshotTask Capture(VMBackgroundSnapshot snapshot, SourceVm vm, PodSummary carrier, string? objects = null)
    {
        SnapshotTask task = Build(snapshot, TaskAction.Capture, vm.NodeName, SnapshotNaming.Directory(snapshot), carrier);
        task.Spec.Source = vm.ToTarget(snapshot.Spec.Source.Name, objects);
        task.Spec.Capture = snapshot.Spec.Capture;
        return task;
    }

    /// <summary>The task to remove the files.</summary>
    public static SnapshotTask Delete(VMBackgroundSnapshot snapshot, PodSummary carrier) =>
        Build(
            snapshot,
            TaskAction.Delete,
            carrier.Spec!.NodeName!,
            snapshot.Status?.Directory ?? SnapshotNaming.Directory(snapshot),
            carrier
        );

    private static SnapshotTask Build(VMBackgroundSnapshot snapshot, string action, string node, string directory, PodSummary carrier) =>
        TaskBuilder.Build(
            SnapshotNaming.Made(snapshot, SnapshotNaming.Task(snapshot, action), TaskBuilder.ForNode(node)),
            action,
            node,
            directory,
            carrier
        );
}
