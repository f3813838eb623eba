using System.Text.Json.Serialization;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// The manifest <c>snapshot.json</c>: what was captured, from which machine, when, and the checksum of every file. Unknown fields are
/// ignored; missing or mistyped ones are an error.
/// </summary>
public sealed record Manifest
{
    /// <summary>Always <see cref="FormatV1.ManifestVersion"/>.</summary>
    [JsonRequired]
    public int FormatVersion { get; init; } = FormatV1.ManifestVersion;

    /// <summary>Always <see cref="FormatV1.ManifestKind"/>.</summary>
    [JsonRequired]
    public string Kind { get; init; } = FormatV1.ManifestKind;

    /// <summary>Random id, also in the page log.</summary>
    public required Guid Id { get; init; }

    /// <summary>The name that the user gave.</summary>
    public required string Name { get; init; }

    /// <summary>Program and version that took the snapshot.</summary>
    public required string CreatedBy { get; init; }

    /// <summary>The instant that RAM, devices and disks show; RFC 3339 in UTC with microseconds.</summary>
    [JsonConverter(typeof(MicrosecondTimeConverter))]
    public required DateTimeOffset PointInTime { get; init; }

    /// <summary>The virtual machine.</summary>
    public required ManifestSource Source { get; init; }

    /// <summary>What a restore must start.</summary>
    public required ManifestMachine Machine { get; init; }

    /// <summary>How it was captured and what the guest noticed.</summary>
    public required ManifestCapture Capture { get; init; }

    /// <summary>Guest memory.</summary>
    public required ManifestRam Ram { get; init; }

    /// <summary>The machine's disks.</summary>
    [JsonRequired]
    public IReadOnlyList<ManifestDisk> Disks { get; init; } = [];

    /// <summary>The snapshot that this one builds on; null if it builds on no other.</summary>
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

    /// <summary>Its devices on PCI buses; null if the version that took the snapshot did not record them.</summary>
    public IReadOnlyList<ManifestDevice>? Devices { get; init; }
}

/// <summary>A device on a PCI bus of the captured machine.</summary>
/// <param name="Path">
/// Its place, in the form in which section names begin: domain, bus, and slot and function of each level, such as <c>0000:00:02.0:00.0</c>.
/// </param>
/// <param name="Type">QEMU's name for its type, such as <c>virtio-blk-pci</c>.</param>
public sealed record ManifestDevice(string Path, string Type)
{
    /// <summary>Its id; null if it has no id.</summary>
    public string? Id { get; init; }

    /// <summary>Vendor and device, such as <c>1af4:1001</c>; null if QEMU did not report them.</summary>
    public string? PciId { get; init; }

    /// <summary>Other properties that shape its state: vectors, queues, ports; null if no such property is known.</summary>
    public IReadOnlyDictionary<string, string>? Properties { get; init; }
}

/// <summary>How the snapshot was captured. Times are microseconds, ≥ 0.</summary>
public sealed record ManifestCapture
{
    /// <summary>Engine: <c>agent</c> or <c>qemu</c>.</summary>
    public required string Engine { get; init; }

    /// <summary>Why this engine; null if the user asked for it.</summary>
    public string? EngineReason { get; init; }

    /// <summary>The requested compression: <c>none</c>, <c>lz4</c> or <c>zstd</c>.</summary>
    public required string Compression { get; init; }

    /// <summary>How long the vCPUs were stopped.</summary>
    public required long DowntimeMicroseconds { get; init; }

    /// <summary>Where that time went; null if the engine does not show it, or the guest was paused before.</summary>
    public ManifestStopWindow? StopWindow { get; init; }

    /// <summary>From the point in time until the last page was unprotected.</summary>
    public required long ProtectionWindowMicroseconds { get; init; }

    /// <summary>From the first step to the last before the manifest was written.</summary>
    public required long TotalMicroseconds { get; init; }

    /// <summary>
    /// How quiet the guest was at the point in time: <c>Online</c>, <c>GuestAgent</c>, <c>NoGuestAgent</c> or <c>QuiesceFailed</c>; null if
    /// no freeze was requested.
    /// </summary>
    public string? Quiesce { get; init; }

    /// <summary>Whether the guest was paused when it was captured, and stays paused: a restore of it is paused too.</summary>
    public bool Paused { get; init; }

    /// <summary>What the guest did afterwards: <c>Continue</c> or <c>Stop</c>.</summary>
    // If the file lacks a field, generated code sets it to null, past the initializer.
    public string After
    {
        get;
        init => field = value ?? "Continue";
    } = "Continue";

    /// <summary>How the disks were cut, one of <see cref="DiskMethods"/>; null if no disk was requested.</summary>
    public string? DiskMethod { get; init; }

    /// <summary>Why this method; null if the user asked for it.</summary>
    public string? DiskMethodReason { get; init; }

    /// <summary>Guest writes that had to wait for a copy.</summary>
    public required ManifestFaults Faults { get; init; }

    /// <summary>What happened when.</summary>
    [JsonRequired]
    public IReadOnlyList<ManifestTimelineEntry> Timeline { get; init; } = [];
}

/// <summary>The parts of the downtime.</summary>
/// <param name="StopMicroseconds">Stopping the guest, including the wait for disk requests in progress.</param>
/// <param name="DisksMicroseconds">Cutting the disks.</param>
/// <param name="DevicesMicroseconds">Saving the devices; without disks, stopping too.</param>
/// <param name="ProtectMicroseconds">Protecting RAM.</param>
/// <param name="ContMicroseconds">Resuming the guest.</param>
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
    /// <summary>Number of faults.</summary>
    public required long Count { get; init; }

    /// <summary>Median service time; null without faults.</summary>
    public long? P50Microseconds { get; init; }

    /// <summary>99th percentile; null without faults.</summary>
    public long? P99Microseconds { get; init; }

    /// <summary>Longest; null without faults.</summary>
    public long? MaxMicroseconds { get; init; }
}

/// <summary>One event of the capture.</summary>
/// <param name="Name">The event.</param>
/// <param name="OffsetMicroseconds">Time since the first step.</param>
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

    /// <summary>Bytes of the stored pages after encoding.</summary>
    public required long StoredBytes { get; init; }

    /// <summary>The blocks, in the order of the page log.</summary>
    public required IReadOnlyList<ManifestRamBlock> Blocks { get; init; }

    /// <summary>Creates the record for the content of a page log.</summary>
    /// <param name="summary">Its writer's summary.</param>
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
/// <param name="Checksum"><c>sha256:</c> and 64 hex digits over the whole file, or, for the page log, <c>bgsnplog:</c> and 32 hex digits of
/// XXH3-128 over its footer, which covers the rest.</param>
public sealed record ManifestFile(string Name, long Size, string Checksum);
