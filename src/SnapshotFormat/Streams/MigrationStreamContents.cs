namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>What a complete migration stream contained besides its pages.</summary>
/// <param name="MachineType">Versioned machine type, such as <c>pc-q35-7.2</c>.</param>
/// <param name="Blocks">The RAM blocks, in the order of the stream.</param>
/// <param name="DeviceState">Device state in the form of a snapshot's <c>device-state</c> file.</param>
/// <param name="Description">QEMU's description of the device state; null if the machine suppresses it.</param>
/// <param name="Pages">Number of page records with content; a page that was sent twice counts twice.</param>
/// <param name="ZeroPages">Number of records of zero pages.</param>
/// <param name="Length">Bytes of the stream.</param>
public sealed record MigrationStreamContents(
    string MachineType,
    IReadOnlyList<StreamRamBlock> Blocks,
    DeviceStateFile DeviceState,
    VmDescription? Description,
    long Pages,
    long ZeroPages,
    long Length
);
