using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore;

/// <summary>A snapshot as the migration stream that stock QEMU loads (<c>export</c>, and restore by stream).</summary>
internal sealed class SnapshotStream : IDisposable
{
    private readonly PageLogReader _log;
    private SnapshotDirectory _snapshot;
    private readonly DeviceStateFile _devices;

    private SnapshotStream(SnapshotDirectory snapshot)
    {
        _snapshot = snapshot;
        _log = snapshot.OpenMemory();
        try
        {
            // The manifest says whether the guest was paused; what QEMU wrote depends on who had stopped it, and why.
            _devices = GlobalState.With(DeviceStateFile.Parse(snapshot.ReadDeviceState()), snapshot.Manifest.Capture.Paused);
        }
        catch
        {
            _log.Dispose();
            throw;
        }
    }

    internal Manifest Manifest => _snapshot.Manifest;

    internal SnapshotDirectory Directory => _snapshot;

    /// <summary>The memory, for a method that loads it without the stream.</summary>
    internal PageLogReader Log => _log;

    internal IReadOnlyList<RamBlockLayout> Blocks => _log.Blocks;

    /// <summary>The same blocks as the stream lists them.</summary>
    internal IReadOnlyList<(string Name, ulong UsedLength)> StreamBlocks => [.. _log.Blocks.Select(b => (b.Name, b.UsedLength))];

    internal DeviceStateFile Devices => _devices;

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

    /// <summary>
    /// Reopens the same snapshot by its path: the open files could be on a volume that failed permanently and has since been mounted again.
    /// </summary>
    /// <exception cref="SnapshotCorruptException">The path leads to another snapshot, or a damaged one.</exception>
    /// <exception cref="IOException">The path leads to no readable snapshot.</exception>
    internal void Reopen()
    {
        SnapshotDirectory? again = null;
        try
        {
            again = SnapshotDirectory.Open(_snapshot.Path);
            using PageLogReader log = again.OpenMemory();
            if (!_log.TryExchangeFile(log))
                throw new SnapshotCorruptException(again.Path, 0, $"another snapshot is there now: {log.Header.Id}, not {_log.Header.Id}");
            (_snapshot, again) = (again, _snapshot);
        }
        catch
        {
            // A path through another process's descriptors ends with that process, and pins the volume just as our own descriptors do.
            if (!_snapshot.Path.StartsWith("/proc/", StringComparison.Ordinal))
            {
                _log.CloseIfFailed();
                _snapshot.Dispose();
            }
            throw;
        }
        finally
        {
            again?.Dispose();
        }
    }

    /// <summary>
    /// Writes the stream. Damage found on the way ends it before the device state, so that no guest ever runs on damaged memory.
    /// </summary>
    internal long Write(SafeFileHandle output, Action<RamProgress>? progress, CancellationToken cancel) =>
        Write(output, new MigrationStreamWriterOptions { Progress = progress }, cancel);

    /// <inheritdoc cref="Write(SafeFileHandle, Action{RamProgress}?, CancellationToken)"/>
    internal long Write(SafeFileHandle output, MigrationStreamWriterOptions options, CancellationToken cancel) =>
        new MigrationStreamWriter(Manifest.Machine.Type, new SnapshotRam(_log), _devices, options).Write(output, cancel);

    /// <inheritdoc/>
    public void Dispose()
    {
        _log.Dispose();
        _snapshot.Dispose();
    }
}
