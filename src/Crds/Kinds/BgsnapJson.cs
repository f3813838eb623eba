using System.Text.Json.Serialization;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Crds.Kinds;

/// <summary>How objects are read and written; made at compile time, since the node agent is a native binary.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull
)]
[JsonSerializable(typeof(VMBackgroundSnapshot))]
[JsonSerializable(typeof(ResourceList<VMBackgroundSnapshot>))]
[JsonSerializable(typeof(VMBackgroundSnapshotSchedule))]
[JsonSerializable(typeof(ResourceList<VMBackgroundSnapshotSchedule>))]
[JsonSerializable(typeof(VMBackgroundRestore))]
[JsonSerializable(typeof(ResourceList<VMBackgroundRestore>))]
[JsonSerializable(typeof(SnapshotTask))]
[JsonSerializable(typeof(ResourceList<SnapshotTask>))]
[JsonSerializable(typeof(PodSummary))]
[JsonSerializable(typeof(ResourceList<PodSummary>))]
public sealed partial class BgsnapJson : JsonSerializerContext;

/// <summary>The kinds that both programs use.</summary>
public static class Resources
{
    /// <summary>Snapshots.</summary>
    public static ResourceType<VMBackgroundSnapshot> Snapshots { get; } =
        new(
            Names.Group,
            Names.Version,
            "vmbackgroundsnapshots",
            BgsnapJson.Default.VMBackgroundSnapshot,
            BgsnapJson.Default.ResourceListVMBackgroundSnapshot
        );

    /// <summary>Schedules.</summary>
    public static ResourceType<VMBackgroundSnapshotSchedule> Schedules { get; } =
        new(
            Names.Group,
            Names.Version,
            "vmbackgroundsnapshotschedules",
            BgsnapJson.Default.VMBackgroundSnapshotSchedule,
            BgsnapJson.Default.ResourceListVMBackgroundSnapshotSchedule
        );

    /// <summary>Restores.</summary>
    public static ResourceType<VMBackgroundRestore> Restores { get; } =
        new(
            Names.Group,
            Names.Version,
            "vmbackgroundrestores",
            BgsnapJson.Default.VMBackgroundRestore,
            BgsnapJson.Default.ResourceListVMBackgroundRestore
        );

    /// <summary>Tasks.</summary>
    public static ResourceType<SnapshotTask> Tasks { get; } =
        new(Names.Group, Names.Version, "snapshottasks", BgsnapJson.Default.SnapshotTask, BgsnapJson.Default.ResourceListSnapshotTask);

    /// <summary>Pods, as far as we read them.</summary>
    public static ResourceType<PodSummary> Pods { get; } =
        new("", "v1", "pods", BgsnapJson.Default.PodSummary, BgsnapJson.Default.ResourceListPodSummary);
}
