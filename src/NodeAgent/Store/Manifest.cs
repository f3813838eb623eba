using System.Text.Json.Serialization;

namespace Bgsnap.NodeAgent.Store;

/// <summary>The manifest <c>snapshot.json</c>: what was taken, of what, when, and the checksum of every file.
/// Unknown fields are ignored; missing or mistyped ones are an error.</summary>
public sealed record Manifest
{
    /// <summary>Always <see cref="SnapshotFormat.ManifestVersion"/>.</summary>
    [JsonRequired]
    public int FormatVersion { get; init; } = SnapshotFormat.ManifestVersion;

    /// <summary>Always <see cref="SnapshotFormat.ManifestKind"/>.</summary>
    [JsonRequired]
    public string Kind { get; init; } = SnapshotFormat.ManifestKind;

    /// <summary>Random id, also in the page log.</summary>
    public required Guid Id { get; init; }

    /// <summary>Name that the user gave.</summary>
    public required string Name { get; init; }

    /// <summary>Program and version that took it.</summary>
    public required string CreatedBy { get; init; }

    /// <summary>The instant that RAM, devices and disks show; RFC 3339 in UTC with microseconds.</summary>
    [JsonConverter(typeof(MicrosecondTimeConverter))]
    public required DateTimeOffset PointInTime { get; init; }

    /// <summary>The virtual machine.</summary>
    public required ManifestSource Source { get; init; }

    /// <summary>What a restore must start.</summary>
    public required ManifestMachine Machine { get; init; }

    /// <summary>How it was taken and what the guest noticed.</summary>
    public required ManifestCapture Capture { get; init; }

    /// <summary>Guest memory.</summary>
    public required ManifestRam Ram { get; init; }

    /// <summary>The machine's disks.</summary>
    [JsonRequired]
    public IReadOnlyList<ManifestDisk> Disks { get; init; } = [];

    /// <summary>Snapshot that this one builds on; null: none.</summary>
    public string? Parent { get; init; }

    /// <summary>Every other file of the directory. Filled in by <see cref="SnapshotDirectoryWriter.Commit"/>.</summary>
    [JsonRequired]
    public IReadOnlyList<ManifestFile> Files { get; init; } = [];
}

/// <summary>Where the machine ran.</summary>
public sealed record ManifestSource
{
    /// <summary>QEMU's process id, as the agent saw it.</summary>
    public required int Pid { get; init; }

    /// <summary>QMP socket as given; null if QEMU was reached another way.</summary>
    public string? QmpSocket { get; init; }

    /// <summary>The guest's name; null if it has none.</summary>
    public string? VmName { get; init; }

    /// <summary>The guest's UUID; null if it has none.</summary>
    public string? Uuid { get; init; }
}

/// <summary>The machine that the device state fits.</summary>
public sealed record ManifestMachine
{
    /// <summary>Versioned machine name, such as <c>pc-i440fx-7.2</c>.</summary>
    public required string Type { get; init; }

    /// <summary>QEMU's version, such as <c>7.2.19</c>.</summary>
    public required string QemuVersion { get; init; }

    /// <summary>QEMU's command line, program first.</summary>
    public required IReadOnlyList<string> Arguments { get; init; }

    /// <summary>Its devices on PCI buses; null: the version that took the snapshot did not keep them.</summary>
    public IReadOnlyList<ManifestDevice>? Devices { get; init; }
}

/// <summary>A device on a PCI bus of the captured machine.</summary>
/// <param name="Path">
/// Its place, as names of sections begin: domain, bus, and slot and function of each level, such as <c>0000:00:02.0:00.0</c>.
/// </param>
/// <param name="Type">QEMU's name of its type, such as <c>virtio-blk-pci</c>.</param>
public sealed record ManifestDevice(string Path, string Type)
{
    /// <summary>Its id; null: it has none.</summary>
    public string? Id { get; init; }

    /// <summary>Vendor and device, such as <c>1af4:1001</c>; null: QEMU did not say.</summary>
    public string? PciId { get; init; }

    /// <summary>What else shapes its state: vectors, queues, ports; null: nothing that is known.</summary>
    public IReadOnlyDictionary<string, string>? Properties { get; init; }
}

/// <summary>How the snapshot was taken. Times are microseconds, ≥ 0.</summary>
public sealed record ManifestCapture
{
    /// <summary>Engine: <c>agent</c> or <c>qemu</c>.</summary>
    public required string Engine { get; init; }

    /// <summary>Why this engine; null if it was asked for.</summary>
    public string? EngineReason { get; init; }

    /// <summary>Compression asked for: <c>none</c>, <c>lz4</c> or <c>zstd</c>.</summary>
    public required string Compression { get; init; }

    /// <summary>How long the vCPUs were stopped.</summary>
    public required long DowntimeMicroseconds { get; init; }

    /// <summary>Where that time went; null where the engine does not show it, or the guest did not run before.</summary>
    public ManifestStopWindow? StopWindow { get; init; }

    /// <summary>From the point in time until the last page was unprotected.</summary>
    public required long ProtectionWindowMicroseconds { get; init; }

    /// <summary>From the first step to the last before the manifest was written.</summary>
    public required long TotalMicroseconds { get; init; }

    /// <summary>How quiet the guest was at the point in time: <c>Online</c>, <c>GuestAgent</c>, <c>NoGuestAgent</c> or
    /// <c>QuiesceFailed</c>; null if nobody tried.</summary>
    public string? Quiesce { get; init; }

    /// <summary>The guest did not run when it was captured, and stays so: a restore of it is paused too.</summary>
    public bool Paused { get; init; }

    /// <summary>What became of the guest: <c>Continue</c> or <c>Stop</c>.</summary>
    // A field that the file lacks is set to null by generated code, past the initializer.
    public string After
    {
        get;
        init => field = value ?? "Continue";
    } = "Continue";

    /// <summary>How the disks were cut, one of <see cref="DiskMethods"/>; null: no disk was asked for.</summary>
    public string? DiskMethod { get; init; }

    /// <summary>Why in this way; null if it was asked for.</summary>
    public string? DiskMethodReason { get; init; }

    /// <summary>Guest writes that had to wait for a copy.</summary>
    public required ManifestFaults Faults { get; init; }

    /// <summary>What happened when.</summary>
    [JsonRequired]
    public IReadOnlyList<ManifestTimelineEntry> Timeline { get; init; } = [];
}

/// <summary>The parts of the downtime.</summary>
/// <param name="StopMicroseconds">Stopping: requests that were under way at the disks are waited for.</param>
/// <param name="DisksMicroseconds">Cutting the disks.</param>
/// <param name="DevicesMicroseconds">Saving the devices; without disks, stopping too.</param>
/// <param name="ProtectMicroseconds">Protecting RAM.</param>
/// <param name="ContMicroseconds">Letting the guest run.</param>
public sealed record ManifestStopWindow(
    long StopMicroseconds,
    long DisksMicroseconds,
    long DevicesMicroseconds,
    long ProtectMicroseconds,
    long ContMicroseconds
);

/// <summary>Faults served in the protection window.</summary>
public sealed record ManifestFaults
{
    /// <summary>How many.</summary>
    public required long Count { get; init; }

    /// <summary>Median service time; null without faults.</summary>
    public long? P50Microseconds { get; init; }

    /// <summary>99th percentile; null without faults.</summary>
    public long? P99Microseconds { get; init; }

    /// <summary>Longest; null without faults.</summary>
    public long? MaxMicroseconds { get; init; }
}

/// <summary>One event of the capture.</summary>
/// <param name="Name">What happened.</param>
/// <param name="OffsetMicroseconds">When, from the first step.</param>
public sealed record ManifestTimelineEntry(string Name, long OffsetMicroseconds);

/// <summary>Guest memory.</summary>
public sealed record ManifestRam
{
    /// <summary>Sum of the blocks' used lengths, in bytes.</summary>
    public required ulong TotalBytes { get; init; }

    /// <summary>Pages stored.</summary>
    public required long StoredPages { get; init; }

    /// <summary>Pages that are zero and not stored.</summary>
    public required long ZeroPages { get; init; }

    /// <summary>Bytes that the stored pages take after encoding.</summary>
    public required long StoredBytes { get; init; }

    /// <summary>The blocks, in the order of the page log.</summary>
    public required IReadOnlyList<ManifestRamBlock> Blocks { get; init; }

    /// <summary>The record for what a page log holds.</summary>
    /// <param name="summary">What its writer said.</param>
    /// <param name="blocks">Its blocks.</param>
    public static ManifestRam From(PageLogSummary summary, IReadOnlyList<ManifestRamBlock> blocks)
    {
        ArgumentNullException.ThrowIfNull(summary);
        ArgumentNullException.ThrowIfNull(blocks);
        return new ManifestRam
        {
            TotalBytes = blocks.Aggregate(0UL, (sum, b) => sum + b.UsedLength),
            StoredPages = summary.StoredPages,
            ZeroPages = summary.ZeroPages,
            StoredBytes = summary.StoredBytes,
            Blocks = blocks,
        };
    }
}

/// <summary>One RAM block.</summary>
/// <param name="Name">QEMU's idstr.</param>
/// <param name="UsedLength">Bytes in use.</param>
/// <param name="PageSize">Bytes of a host page.</param>
/// <param name="Kind">What backs it: <c>anonymous</c>, <c>shared</c>, <c>hugetlbfs</c> …</param>
public sealed record ManifestRamBlock(string Name, ulong UsedLength, uint PageSize, string Kind);

/// <summary>One file of the snapshot.</summary>
/// <param name="Name">Path within the directory, <c>/</c> between its at most two parts.</param>
/// <param name="Size">Its bytes.</param>
/// <param name="Checksum"><c>sha256:</c> and 64 hex digits over the whole file, or, for the page log, <c>bgsnplog:</c> and 32
/// hex digits of XXH3-128 over its footer, which vouches for the rest.</param>
public sealed record ManifestFile(string Name, long Size, string Checksum);
