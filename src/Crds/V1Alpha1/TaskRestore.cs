using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Bgsnap.Crds.Schema;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>How a task restores.</summary>
public sealed class TaskRestore
{
    /// <summary>All or None.</summary>
    [Description(
        "All writes the snapshot's disks into the files that the waiting QEMU has open; None does not, because they were "
            + "written before."
    )]
    [AllowedValues("All", "None")]
    [DefaultValue("All")]
    public string? Disks { get; set; }

    /// <summary>One of <see cref="RestoreMode"/>; null: Auto.</summary>
    [Description("How RAM is loaded; Auto when not set.")]
    [AllowedValues(RestoreMode.Auto, RestoreMode.Instant, RestoreMode.Eager, RestoreMode.Stream)]
    public string? Mode { get; set; }

    /// <summary>Bytes per second.</summary>
    [Description("Maximum bytes of RAM read ahead of the guest per second, as a quantity.")]
    [StringLength(32)]
    public string? BandwidthLimit { get; set; }
}

/// <summary>A disk that a task writes.</summary>
public sealed class TaskDisk
{
    /// <summary>Name in the snapshot.</summary>
    [Required]
    [Description("Name of the disk in the snapshot.")]
    [StringLength(253, MinimumLength = 1)]
    public string Name { get; set; } = "";

    /// <summary>Where to.</summary>
    [Required]
    [Description("Absolute path of the file or block device, as the carrier's container sees it.")]
    [Cel("self.startsWith('/')", "spec.disks.path: an absolute path in the carrier")]
    [StringLength(1024)]
    public string Path { get; set; } = "";

    /// <summary>raw or qcow2.</summary>
    [Required]
    [Description("Format that QEMU will open it with.")]
    [AllowedValues("raw", "qcow2")]
    public string Driver { get; set; } = "raw";
}
