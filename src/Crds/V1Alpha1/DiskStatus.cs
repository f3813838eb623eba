using System.ComponentModel;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>A disk of a snapshot, as the task's result and the snapshot's status tell of it.</summary>
public sealed class DiskStatus
{
    /// <summary>Name of the disk.</summary>
    [Description("Name of the disk: QEMU's drive id, or its device's id.")]
    public string? Name { get; set; }

    /// <summary>Bytes as the guest sees it.</summary>
    [Description("Size of the disk as the guest sees it, in bytes.")]
    public long? VirtualSize { get; set; }

    /// <summary>Bytes on the claim.</summary>
    [Description("Bytes that it takes on the snapshot's claim; 0 when it is not there.")]
    public long? StoredBytes { get; set; }

    /// <summary>One of <see cref="DiskCaptureMethod"/>.</summary>
    [Description("How it was captured: CopyBeforeWrite, Overlay, VolumeSnapshot, or None.")]
    public string? Method { get; set; }

    /// <summary>Why it was not copied.</summary>
    [Description("Why it was not copied, such as read-only.")]
    public string? Note { get; set; }

    /// <summary>Its VolumeSnapshot.</summary>
    [Description("VolumeSnapshot that holds it, with method VolumeSnapshot.")]
    public string? VolumeSnapshotName { get; set; }

    /// <summary>Format of the image in the VM's container.</summary>
    [Description("Format of its image in the VM's container, such as raw or qcow2.")]
    public string? Driver { get; set; }

    /// <summary>Path of the image in the VM's container.</summary>
    [Description("Path of its image in the VM's container.")]
    public string? Path { get; set; }
}

/// <summary>Values of <see cref="SnapshotStatus.Indications"/>, as KubeVirt has them.</summary>
public static class SnapshotIndication
{
    /// <summary>QEMU ran.</summary>
    public const string Online = "Online";

    /// <summary>It was paused: nothing ran in it that could be frozen.</summary>
    public const string Paused = "Paused";

    /// <summary>Its file systems were frozen by the guest agent.</summary>
    public const string GuestAgent = "GuestAgent";

    /// <summary>There was no guest agent.</summary>
    public const string NoGuestAgent = "NoGuestAgent";

    /// <summary>The guest agent could not freeze.</summary>
    public const string QuiesceFailed = "QuiesceFailed";
}
