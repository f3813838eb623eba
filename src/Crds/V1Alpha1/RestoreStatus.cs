using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;
using k8s.Models;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>What has become of a restore.</summary>
public sealed class RestoreStatus : IConditionedStatus
{
    /// <summary>Generation that this status is about.</summary>
    [Description("Generation of the object that this status describes.")]
    public long? ObservedGeneration { get; set; }

    /// <summary>One of <see cref="RestorePhase"/>.</summary>
    [Description(
        "Pending (something it needs is missing), Preparing (creating and mounting claims), Queued (the node is busy "
            + "with other restores), WritingDisks, Starting (starting the virtual machine's pod), Restoring (loading RAM and "
            + "device state), Running (the guest runs and its RAM still arrives), Ready (the guest runs and has all its "
            + "RAM), Failed, or "
            + "Deleting."
    )]
    public string? Phase { get; set; }

    /// <summary>Conditions; see <see cref="ConditionTypes"/>.</summary>
    [Description(
        "Ready: the guest runs. Resident: all of its RAM has arrived, and the snapshot's volume is no longer needed. Reconciling "
            + "and Stalled: as kstatus defines them. DisksRestored: the claims hold the snapshot's disks."
    )]
    [ListMapKey("type")]
    public List<V1Condition>? Conditions { get; set; }

    /// <summary>Uid of the snapshot.</summary>
    [Description("UID of the snapshot that is restored. It cannot be deleted before the restore has ended.")]
    public string? SnapshotUID { get; set; }

    /// <summary>Node of the VM.</summary>
    [Description("Node on which the virtual machine is restored.")]
    public string? NodeName { get; set; }

    /// <summary>Pod of the VM.</summary>
    [Description("Pod in which the virtual machine is restored.")]
    public string? PodName { get; set; }

    /// <summary>Uid of that pod.</summary>
    [Description("UID of that pod.")]
    public string? PodUID { get; set; }

    /// <summary>Uid of the VirtualMachine that was made.</summary>
    [Description("UID of the KubeVirt VirtualMachine that was created.")]
    public string? VirtualMachineUID { get; set; }

    /// <summary>Claims that were made.</summary>
    [Description("Claims that were created for the disks.")]
    [ListMapKey("disk")]
    public List<RestoredClaim>? Claims { get; set; }

    /// <summary>Progress.</summary>
    [Description("Progress of the disks, and then of RAM.")]
    public RestoreProgress? Progress { get; set; }

    /// <summary>The mode that was used.</summary>
    [Description("Mode that was used: Instant, Eager or Stream.")]
    public string? Mode { get; set; }

    /// <summary>Why that mode.</summary>
    [Description("Why that mode was used.")]
    public string? ModeReason { get; set; }

    /// <summary>How RAM arrived after the guest ran.</summary>
    [Description("In mode Instant: how often the guest touched a page that had not arrived, and how long it waited.")]
    public RestoreFaults? Faults { get; set; }

    /// <summary>From the creation until the guest ran.</summary>
    [Description(
        "Time from the start of the agent's task until the guest ran, such as 850ms. Disks of a template are written " + "before that."
    )]
    public string? TimeToRun { get; set; }

    /// <summary>When the guest ran, or the restore failed.</summary>
    [Description("When the guest ran, or the restore Failed.")]
    public DateTime? CompletionTime { get; set; }
}

/// <summary>A claim that was made for a disk.</summary>
public sealed class RestoredClaim
{
    /// <summary>The disk.</summary>
    [Required]
    [Description("Name of the disk in the snapshot.")]
    public string Disk { get; set; } = "";

    /// <summary>The claim.</summary>
    [Description("Name of the claim.")]
    public string Name { get; set; } = "";

    /// <summary>Its size as asked for.</summary>
    [Description("Requested size.")]
    public string? Size { get; set; }
}

/// <summary>What a guest waited for while its RAM arrived.</summary>
public sealed class RestoreFaults
{
    /// <summary>How many.</summary>
    [Description("Pages that the guest touched before they had arrived.")]
    public long? Count { get; set; }

    /// <summary>Half of them took at most this.</summary>
    [Description("Median of the time until such a page arrived, such as 80us.")]
    public string? P50 { get; set; }

    /// <summary>99 of 100 took at most this.</summary>
    [Description("99th percentile of that time.")]
    public string? P99 { get; set; }

    /// <summary>None took longer.</summary>
    [Description("Longest such time.")]
    public string? Max { get; set; }
}

/// <summary>How far a restore is.</summary>
public sealed class RestoreProgress
{
    /// <summary>Share of the present stage that is done, 0 to 100.</summary>
    [Description("Progress of the current stage (disks, memory, or the RAM that has arrived for a running guest), in percent.")]
    [Range(0, 100)]
    public int? Percent { get; set; }

    /// <summary>The same for people.</summary>
    [Description("Progress as text, such as disks 42%.")]
    public string? Text { get; set; }

    /// <summary>Bytes done.</summary>
    [Description("Bytes done in the current stage.")]
    public long? Bytes { get; set; }

    /// <summary>Bytes per second.</summary>
    [Description("Bytes per second.")]
    public long? BytesPerSecond { get; set; }
}

/// <summary>Values of <see cref="RestoreStatus.Phase"/>.</summary>
public static class RestorePhase
{
    /// <summary>Something it needs is missing.</summary>
    public const string Pending = "Pending";

    /// <summary>Claims are made and brought to a node.</summary>
    public const string Preparing = "Preparing";

    /// <summary>The node is busy with other restores.</summary>
    public const string Queued = "Queued";

    /// <summary>The disks are written to the claims.</summary>
    public const string WritingDisks = "WritingDisks";

    /// <summary>The virtual machine's pod is started.</summary>
    public const string Starting = "Starting";

    /// <summary>RAM and device state are loaded.</summary>
    public const string Restoring = "Restoring";

    /// <summary>The guest runs, and its RAM still arrives.</summary>
    public const string Running = "Running";

    /// <summary>The guest runs and has all its RAM.</summary>
    public const string Ready = "Ready";

    /// <summary>Given up; what it made is removed.</summary>
    public const string Failed = "Failed";

    /// <summary>Being deleted.</summary>
    public const string Deleting = "Deleting";

    /// <summary>All of them, in their order.</summary>
    public static IReadOnlyList<string> All { get; } =
    [Pending, Preparing, Queued, WritingDisks, Starting, Restoring, Running, Ready, Failed, Deleting];

    /// <summary>Whether nothing changes any more by itself.</summary>
    public static bool IsTerminal(string? phase) => phase is Ready or Failed;
}
