using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>Names of the objects that we create for a snapshot, and their metadata.</summary>
internal static class SnapshotNaming
{
    /// <summary>The snapshot's directory on the claim; also the name of its capture task.</summary>
    public static string Directory(VMBackgroundSnapshot snapshot) => $"{snapshot.Metadata.Name}-{Ownership.Short(snapshot)}";

    /// <summary>Name of the pod that mounts the claim, for a capture or a deletion.</summary>
    public static string Carrier(VMBackgroundSnapshot snapshot, string action) =>
        $"{Directory(snapshot)}-{(action == TaskAction.Capture ? "carrier" : "cleaner")}";

    /// <summary>Name of the task.</summary>
    public static string Task(VMBackgroundSnapshot snapshot, string action) =>
        action == TaskAction.Capture ? Directory(snapshot) : $"{Directory(snapshot)}-delete";

    /// <summary>Name of the claim that a claimTemplate describes.</summary>
    public static string Claim(VMBackgroundSnapshot snapshot) => snapshot.Metadata.Name;

    /// <summary>Metadata of an object that the snapshot owns: it is deleted with the snapshot.</summary>
    public static V1ObjectMeta Made(VMBackgroundSnapshot snapshot, string name, params (string Key, string Value)[] labels) =>
        Ownership.Metadata(snapshot, Names.SnapshotLabel, name, labels);
}
