using Bgsnap.Crds.V1Alpha1;
using k8s;
using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>Marks the objects that we create with their owner.</summary>
internal static class Ownership
{
    /// <summary>The first 8 hexadecimal digits of the object's uid.</summary>
    public static string Short(IKubernetesObject<V1ObjectMeta> item) => item.Metadata.Uid.Replace("-", "", StringComparison.Ordinal)[..8];

    /// <summary>
    /// Metadata of an object that another object of ours owns. The label <paramref name="ownerLabel"/> holds the owner's uid.
    /// </summary>
    public static V1ObjectMeta Metadata(
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
