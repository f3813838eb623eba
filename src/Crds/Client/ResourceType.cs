using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;

namespace Bgsnap.Crds.Client;

/// <summary>A kind of object and how its JSON is read.</summary>
/// <param name="Group">API group; empty: core.</param>
/// <param name="Version">API version.</param>
/// <param name="Plural">Plural name, as in paths.</param>
/// <param name="Json">One object.</param>
/// <param name="ListJson">A list of them.</param>
public sealed record ResourceType<T>(
    string Group,
    string Version,
    string Plural,
    JsonTypeInfo<T> Json,
    JsonTypeInfo<ResourceList<T>> ListJson
)
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    /// <summary>Path of a collection or an object; a null namespace: all of them.</summary>
    internal string Path(string? ns, string? name = null, string? subresource = null)
    {
        string path = Group.Length == 0 ? $"api/{Version}" : $"apis/{Group}/{Version}";
        if (ns is not null)
            path += "/namespaces/" + Uri.EscapeDataString(ns);
        path += "/" + Plural;
        if (name is not null)
            path += "/" + Uri.EscapeDataString(name);
        return subresource is null ? path : path + "/" + subresource;
    }
}

/// <summary>A list as the API server sends it.</summary>
public sealed class ResourceList<T>
{
    /// <summary>Where a watch goes on.</summary>
    public V1ListMeta Metadata { get; set; } = new();

    /// <summary>The objects.</summary>
    public List<T> Items { get; set; } = [];
}

/// <summary>An API server's answer that is not an object.</summary>
public sealed class ApiStatus
{
    /// <summary>HTTP status.</summary>
    public int? Code { get; set; }

    /// <summary>One word: AlreadyExists, Conflict, Invalid…</summary>
    public string? Reason { get; set; }

    /// <summary>In words.</summary>
    public string? Message { get; set; }

    /// <summary>More about it.</summary>
    public ApiStatusDetails? Details { get; set; }
}

/// <summary>More about a refusal.</summary>
public sealed class ApiStatusDetails
{
    /// <summary>What led to it.</summary>
    public List<ApiStatusCause>? Causes { get; set; }
}

/// <summary>What led to a refusal.</summary>
public sealed class ApiStatusCause
{
    /// <summary>One word, such as NamespaceTerminating.</summary>
    public string? Reason { get; set; }
}

/// <summary>The API server refused a request.</summary>
public sealed class ApiException(int code, string reason, string message, string? cause = null) : Exception(message)
{
    /// <summary>HTTP status.</summary>
    public int Code => code;

    /// <summary>One word: AlreadyExists, Conflict, Invalid…</summary>
    public string Reason => reason;

    /// <summary>No such object. A 404 without the word is no such path: the kind is not served, or a proxy stands between.</summary>
    public bool IsNotFound => code == 404 && reason == "NotFound";

    /// <summary>It is there already.</summary>
    public bool IsAlreadyExists => code == 409 && reason == "AlreadyExists";

    /// <summary>It was changed by another, or its uid is another.</summary>
    public bool IsConflict => code == 409 && reason != "AlreadyExists";

    /// <summary>The namespace is being deleted: nothing can be made in it any more.</summary>
    public bool IsNamespaceTerminating => code == 403 && cause == "NamespaceTerminating";

    /// <summary>Asking again unchanged cannot help.</summary>
    public bool IsInvalid => code is 400 or 403 or 422;
}
