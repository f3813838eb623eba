using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;

namespace Bgsnap.Operator.Shared;

/// <summary>The difference between two statuses as a merge patch (RFC 7386).</summary>
internal static class StatusPatch
{
    /// <summary>A deep copy that the caller may change.</summary>
    public static SnapshotStatus Copy(SnapshotStatus? status) => Copy(status, BgsnapJson.Default.SnapshotStatus);

    /// <summary>A deep copy of any kind's status that the caller may change.</summary>
    public static T Copy<T>(T? status, JsonTypeInfo<T> json)
        where T : class, new() => status is null ? new T() : JsonSerializer.Deserialize(JsonSerializer.Serialize(status, json), json)!;

    /// <summary>The merge patch, or null if nothing differs.</summary>
    public static JsonObject? Between(SnapshotStatus? before, SnapshotStatus after) =>
        Between(before, after, BgsnapJson.Default.SnapshotStatus);

    /// <summary>The merge patch between two statuses of any kind, or null if nothing differs.</summary>
    public static JsonObject? Between<T>(T? before, T after, JsonTypeInfo<T> json)
        where T : class, new()
    {
        JsonObject old = (JsonObject?)JsonSerializer.SerializeToNode(before ?? new T(), json)!;
        JsonObject next = (JsonObject)JsonSerializer.SerializeToNode(after, json)!;
        JsonObject patch = MergePatches.Difference(old, next);
        return patch.Count == 0 ? null : patch;
    }
}
