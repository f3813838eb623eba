using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>
/// Names and labels of the objects that we create for a restore. Each name can exist only once, so nothing is created twice.
/// </summary>
internal static class RestoreNaming
{
    /// <summary>Name of the task for one action.</summary>
    public static string Task(VMBackgroundRestore restore, string action) =>
        action switch
        {
            TaskAction.Restore => Base(restore),
            TaskAction.Describe => $"{Base(restore)}-machine",
            _ => $"{Base(restore)}-disks",
        };

    /// <summary>Name of the pod that mounts the snapshot's claim; for the disks it also mounts the claims to write.</summary>
    public static string Carrier(VMBackgroundRestore restore, string action) =>
        $"{Base(restore)}-{action switch { TaskAction.Restore => "carrier", TaskAction.Describe => "reader", _ => "writer" }}";

    /// <summary>Name of the VM's pod; for a KubeVirt VM the launcher pod, once it is known.</summary>
    public static string Pod(VMBackgroundRestore restore) =>
        restore.Spec.Target.VirtualMachine is { } vm
            ? restore.Status?.PodName ?? vm.Name
            : restore.Spec.Target.Pod?.Name ?? restore.Spec.Target.Template?.Pod.Metadata.Name ?? restore.Metadata.Name;

    /// <summary>Metadata of a helper, which the restore owns: it is deleted with the restore.</summary>
    public static V1ObjectMeta Made(VMBackgroundRestore restore, string name, params (string Key, string Value)[] labels) =>
        Ownership.Metadata(restore, Names.RestoreLabel, name, labels);

    /// <summary>Whether an object was created for this restore.</summary>
    public static bool IsOf(VMBackgroundRestore restore, V1ObjectMeta made) =>
        made.Labels?.TryGetValue(Names.RestoreLabel, out string? uid) == true && uid == restore.Metadata.Uid;

    private static string Base(VMBackgroundRestore restore) => $"{restore.Metadata.Name}-{Ownership.Short(restore)}";
}
