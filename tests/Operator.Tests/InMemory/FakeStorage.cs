using System.Text.Json.Nodes;
using Bgsnap.Operator.VolumeSnapshots;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>How the storage behaves with VolumeSnapshots.</summary>
internal enum StorageMood
{
    /// <summary>Cuts in one step, and finishes in the next.</summary>
    Good,

    /// <summary>Never cuts.</summary>
    Slow,

    /// <summary>Cuts, and never finishes.</summary>
    NeverDone,

    /// <summary>Reports an error.</summary>
    Fails,
}

/// <summary>Snapshot controller and CSI driver in one.</summary>
internal sealed class FakeStorage(InMemoryApi api, TimeProvider clock)
{
    internal const string Driver = "csi.example.org",
        Class = "fast";

    internal StorageMood Mood { get; set; }

    /// <summary>The behaviour for the snapshots of single claims, by claim.</summary>
    internal Dictionary<string, StorageMood> MoodOf { get; } = [];

    /// <summary>The names of all VolumeSnapshots ever created.</summary>
    internal IEnumerable<string> Ever =>
        api
            .History.Where(c => c.Plural == "volumesnapshots" && c.Type == "ADDED")
            .Select(c => c.Object["metadata"]!["name"]!.GetValue<string>())
            .Order(StringComparer.Ordinal);

    internal Task AddClass(string name = Class, string driver = Driver, bool isDefault = true) =>
        api.Create(
            VolumeSnapshotKinds.Classes,
            new VolumeSnapshotClass
            {
                Metadata = new()
                {
                    Name = name,
                    Annotations = isDefault
                        ? new Dictionary<string, string> { [VolumeSnapshotKinds.DefaultClassAnnotation] = "true" }
                        : null,
                },
                Driver = driver,
            },
            default
        );

    internal List<VolumeSnapshot> All =>
        api.NotServed.Count > 0 ? [] : api.List(VolumeSnapshotKinds.Snapshots, null, null, default).Result.Items;

    internal async Task Tick()
    {
        foreach (VolumeSnapshot v in All)
        {
            StorageMood mood = MoodOf.GetValueOrDefault(v.Spec.Source.PersistentVolumeClaimName!, Mood);
            bool cut = v.Status?.CreationTime is not null;
            JsonObject? status = mood switch
            {
                StorageMood.Fails => new()
                {
                    ["error"] = new JsonObject { ["message"] = "rpc error: code = ResourceExhausted desc = no snapshots left" },
                    ["readyToUse"] = false,
                },
                StorageMood.Good or StorageMood.NeverDone when !cut => new()
                {
                    ["creationTime"] = clock
                        .GetUtcNow()
                        .ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture),
                    ["readyToUse"] = false,
                },
                StorageMood.Good => new() { ["readyToUse"] = true },
                _ => null,
            };
            if (status is not null)
                await api.MergePatch(
                    VolumeSnapshotKinds.Snapshots,
                    v.Metadata.NamespaceProperty,
                    v.Metadata.Name,
                    "status",
                    new JsonObject { ["status"] = status },
                    default
                );
        }
    }
}
