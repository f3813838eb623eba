using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;

namespace Bgsnap.ControllerRuntime.Client;

/// <summary>A kind of object, and how to read its JSON.</summary>
/// <param name="Group">API group; empty: core.</param>
/// <param name="Version">API version.</param>
/// <param name="Plural">Plural name, as in paths.</param>
/// <param name="Json">JSON type of one object.</param>
/// <param name="ListJson">JSON type of a list.</param>
public sealed record ResourceType<T>(
    string Group,
    string Version,
    string Plural,
    JsonTypeInfo<T> Json,
    JsonTypeInfo<ResourceList<T>> ListJson
)
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    /// <summary>Path of a collection or an object; a null namespace means all namespaces.</summary>
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

/// <summary>A list in the form that the API server sends.</summary>
public sealed class ResourceList<T>
{
    /// <summary>The list's metadata; a watch continues from its resource version.</summary>
    public V1ListMeta Metadata { get; set; } = new();

    /// <summary>The objects.</summary>
    public List<T> Items { get; set; } = [];
}

/// <summary>An API server's answer if it is not an object.</summary>
public sealed class ApiStatus
{
    /// <summary>HTTP status.</summary>
    public int? Code { get; set; }

    /// <summary>The reason in one word: AlreadyExists, Conflict, Invalid…</summary>
    public string? Reason { get; set; }

    /// <summary>The message.</summary>
    public string? Message { get; set; }

    /// <summary>Details of the refusal.</summary>
    public ApiStatusDetails? Details { get; set; }
}

/// <summary>Details of a refusal.</summary>
public sealed class ApiStatusDetails
{
    /// <summary>The causes of the refusal.</summary>
    public List<ApiStatusCause>? Causes { get; set; }
}

/// <summary>A cause of a refusal.</summary>
public sealed class ApiStatusCause
{
    /// <summary>The reason in one word, such as NamespaceTerminating.</summary>
    public string? Reason { get; set; }
}

/// <summary>The API server refused a request.</summary>
public sealed class ApiException(int code, string reason, string message, string? cause = null) : Exception(message)
{
    /// <summary>HTTP status.</summary>
    public int Code => code;

    /// <summary>The reason in one word: AlreadyExists, Conflict, Invalid…</summary>
    public string Reason => reason;

    /// <summary>
    /// The object does not exist. A 404 without that reason means that the path does not exist: the kind is not served, or a proxy
    /// answered.
    /// </summary>
    public bool IsNotFound => code == 404 && reason == "NotFound";

    /// <summary>The object exists already.</summary>
    public bool IsAlreadyExists => code == 409 && reason == "AlreadyExists";

    /// <summary>Another client changed the object, or it has another uid.</summary>
    public bool IsConflict => code == 409 && reason != "AlreadyExists";

    /// <summary>The namespace is being deleted: nothing can be created in it any more.</summary>
    public bool IsNamespaceTerminating => code == 403 && cause == "NamespaceTerminating";

    /// <summary>Repeating the same request cannot help.</summary>
    public bool IsInvalid => code is 400 or 403 or 422;
}
