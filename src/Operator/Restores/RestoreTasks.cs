using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;

namespace Bgsnap.Operator.Restores;

/// <summary>Builds a restore's tasks for the agent.</summary>
internal static class RestoreTasks
{
    /// <summary>The task to write the disks to the claims that the carrier mounts.</summary>
    public static SnapshotTask Disks(VMBackgroundRestore restore, VMBackgroundSnapshot snapshot, RestorePlan plan, PodSummary carrier)
    {
        SnapshotTask task = Build(restore, snapshot, TaskAction.RestoreDisks, carrier.Spec!.NodeName!, carrier);
        task.Spec.Disks =
        [
            .. plan
                .Disks.Where(d => d.IsWritten)
                .Select(d => new TaskDisk
                {
                    Name = d.Disk.Name!,
                    Path = d.Path,
                    Driver = d.Driver,
                }),
        ];
        return task;
    }

    /// <summary>The task to read the snapshot's description of a KubeVirt VM.</summary>
    public static SnapshotTask Describe(VMBackgroundRestore restore, VMBackgroundSnapshot snapshot, PodSummary carrier) =>
        Build(restore, snapshot, TaskAction.Describe, carrier.Spec!.NodeName!, carrier);

    /// <summary>The task to load RAM and device state into the waiting QEMU; for <c>spec.target.pod</c> also the disks.</summary>
    public static SnapshotTask Memory(VMBackgroundRestore restore, VMBackgroundSnapshot snapshot, SourceVm vm, PodSummary carrier)
    {
        SnapshotTask task = Build(restore, snapshot, TaskAction.Restore, vm.NodeName, carrier);
        task.Spec.Target = vm.ToTarget(vm.PodName);
        task.Spec.Restore = new TaskRestore
        {
            Disks = restore.Spec.Target.Pod is null ? "None" : "All",
            Mode = restore.Spec.Mode,
            BandwidthLimit = restore.Spec.BandwidthLimit,
        };
        return task;
    }

    private static SnapshotTask Build(
        VMBackgroundRestore restore,
        VMBackgroundSnapshot snapshot,
        string action,
        string node,
        PodSummary carrier
    ) =>
        TaskBuilder.Build(
            RestoreNaming.Made(restore, RestoreNaming.Task(restore, action), TaskBuilder.ForNode(node)),
            action,
            node,
            snapshot.Status!.Directory!,
            carrier
        );
}
