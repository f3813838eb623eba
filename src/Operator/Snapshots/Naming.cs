using Bgsnap.Crds.V1Alpha1;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Names and marks of what is made for a snapshot.</summary>
internal static class Naming
{
    /// <summary>First 8 digits of the uid.</summary>
    public static string Short(IKubernetesObject<V1ObjectMeta> item) => item.Metadata.Uid.Replace("-", "", StringComparison.Ordinal)[..8];

    /// <summary>The directory on the claim, and the task's name.</summary>
    public static string Directory(VMBackgroundSnapshot snapshot) => $"{snapshot.Metadata.Name}-{Short(snapshot)}";

    /// <summary>The pod that mounts the claim, for capturing or for deleting.</summary>
    public static string Carrier(VMBackgroundSnapshot snapshot, string action) =>
        $"{Directory(snapshot)}-{(action == TaskAction.Capture ? "carrier" : "cleaner")}";

    /// <summary>The task.</summary>
    public static string Task(VMBackgroundSnapshot snapshot, string action) =>
        action == TaskAction.Capture ? Directory(snapshot) : $"{Directory(snapshot)}-delete";

    /// <summary>The claim that is made from a template.</summary>
    public static string Claim(VMBackgroundSnapshot snapshot) => snapshot.Metadata.Name;

    /// <summary>Metadata of something made for a snapshot: it goes with it.</summary>
    public static V1ObjectMeta Made(VMBackgroundSnapshot snapshot, string name, params (string Key, string Value)[] labels) =>
        Made(snapshot, Names.SnapshotLabel, name, labels);

    /// <summary>Metadata of something made for an object of ours, which the label names: it goes with it.</summary>
    public static V1ObjectMeta Made(
        IKubernetesObject<V1ObjectMeta> owner,
        string ownerLabel,
        string name,
        params (string Key, string Value)[] labels
    )
    {
        Dictionary<string, string> all = new() { [Names.ManagedByLabel] = Names.ManagedBy, [ownerLabel] = owner.Metadata.Uid };
        foreach ((string key, string value) in labels)
            all[key] = value;
        return new V1ObjectMeta
        {
            Name = name,
            NamespaceProperty = owner.Metadata.NamespaceProperty,
            Labels = all,
            OwnerReferences =
            [
                new V1OwnerReference
                {
                    ApiVersion = owner.ApiVersion,
                    Kind = owner.Kind,
                    Name = owner.Metadata.Name,
                    Uid = owner.Metadata.Uid,
                    Controller = true,
                    BlockOwnerDeletion = true,
                },
            ],
        };
    }
}
