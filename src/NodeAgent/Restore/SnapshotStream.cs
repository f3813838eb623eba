using Bgsnap.NodeAgent.Store;
using Bgsnap.NodeAgent.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>A snapshot as the migration stream that stock QEMU loads (<c>export</c>, and restore by stream).</summary>
internal sealed class SnapshotStream : IDisposable
{
    private readonly PageLogReader _log;
    private readonly SnapshotDirectory _snapshot;
    private readonly DeviceStateFile _devices;

    private SnapshotStream(SnapshotDirectory snapshot)
    {
        _snapshot = snapshot;
        _log = snapshot.OpenMemory();
        try
        {
            _devices = DeviceStateFile.Parse(snapshot.ReadDeviceState());
        }
        catch
        {
            _log.Dispose();
            throw;
        }
    }

    internal Manifest Manifest => _snapshot.Manifest;

    internal IReadOnlyList<RamBlockLayout> Blocks => _log.Blocks;

    /// <exception cref="SnapshotCorruptException">Manifest, index or device state are damaged; nothing has been sent.</exception>
    internal static SnapshotStream Open(string directory)
    {
        SnapshotDirectory snapshot = SnapshotDirectory.Open(directory);
        try
        {
            return new SnapshotStream(snapshot);
        }
        catch
        {
            snapshot.Dispose();
            throw;
        }
    }

    /// <summary>Writes the stream. Damage found on the way ends it before the device state, so that no guest ever runs on it.</summary>
    internal long Write(SafeFileHandle output, Action<RamProgress>? progress, CancellationToken cancel)
    {
        MigrationStreamWriter writer = new(Manifest.Machine.Type, new SnapshotRam(_log), _devices, new MigrationStreamWriterOptions { Progress = progress });
        return writer.Write(output, cancel);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _log.Dispose();
        _snapshot.Dispose();
    }
}
