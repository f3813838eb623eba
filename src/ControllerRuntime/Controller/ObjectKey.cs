using k8s;
using k8s.Models;

namespace Bgsnap.ControllerRuntime.Controller;

/// <summary>Namespace and name of an object.</summary>
public readonly record struct ObjectKey(string Namespace, string Name)
{
    /// <summary>The key of an object.</summary>
    public static ObjectKey Of(IKubernetesObject<V1ObjectMeta> item) =>
        new(item.Metadata.NamespaceProperty ?? "", item.Metadata.Name ?? "");

    /// <inheritdoc/>
    public override string ToString() => $"{Namespace}/{Name}";
}
