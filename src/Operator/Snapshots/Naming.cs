using Bgsnap.Crds.V1Alpha1;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Names, labels and owners of the objects that we create for a snapshot.</summary>
internal static class Naming
{
    /// <summary>The first 8 hexadecimal digits of the object's uid.</summary>
    public static string Short(IKubernetesObject<V1ObjectMeta> item) => item.Metadata.Uid.Replace("-", "", StringComparison.Ordinal)[..8];

    /// <summary>The snapshot's directory on the claim; also the name of its capture task.</summary>
    public static string Directory(VMBackgroundSnapshot snapshot) => $"{snapshot.Metadata.Name}-{Short(snapshot)}";

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
        Made(snapshot, Names.SnapshotLabel, name, labels);

    /// <summary>
    /// Metadata of an object that another object of ours owns. The label <paramref name="ownerLabel"/> holds the owner's uid.
    /// </summary>
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
