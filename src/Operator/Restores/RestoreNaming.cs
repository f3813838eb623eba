using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>Names and marks of what is made for a restore. Each name can exist once only, so that nothing is made twice.</summary>
internal static class RestoreNaming
{
    /// <summary>The task.</summary>
    public static string Task(VMBackgroundRestore restore, string action) =>
        action switch
        {
            TaskAction.Restore => Base(restore),
            TaskAction.Describe => $"{Base(restore)}-machine",
            _ => $"{Base(restore)}-disks",
        };

    /// <summary>The pod that brings the snapshot's claim, and for the disks the claims that they are written to.</summary>
    public static string Carrier(VMBackgroundRestore restore, string action) =>
        $"{Base(restore)}-{action switch { TaskAction.Restore => "carrier", TaskAction.Describe => "reader", _ => "writer" }}";

    /// <summary>The VM's pod; of a KubeVirt VM the launcher, once it is known.</summary>
    public static string Pod(VMBackgroundRestore restore) =>
        restore.Spec.Target.VirtualMachine is { } vm
            ? restore.Status?.PodName ?? vm.Name
            : restore.Spec.Target.Pod?.Name ?? restore.Spec.Target.Template?.Pod.Metadata.Name ?? restore.Metadata.Name;

    /// <summary>Metadata of a helper: it goes with the restore.</summary>
    public static V1ObjectMeta Made(VMBackgroundRestore restore, string name, params (string Key, string Value)[] labels) =>
        Naming.Made(restore, Names.RestoreLabel, name, labels);

    /// <summary>Whether something was made for this restore.</summary>
    public static bool IsOf(VMBackgroundRestore restore, V1ObjectMeta made) =>
        made.Labels?.TryGetValue(Names.RestoreLabel, out string? uid) == true && uid == restore.Metadata.Uid;

    private static string Base(VMBackgroundRestore restore) => $"{restore.Metadata.Name}-{Naming.Short(restore)}";
}
