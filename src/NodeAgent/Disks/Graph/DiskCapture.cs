using System.Collections.Concurrent;
using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Disks.Nbd;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;
using Bgsnap.NodeAgent.Vm;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>
/// The disks of a capture: cut at the point in time, copied beside RAM, and QEMU's block graph as it was afterwards.
/// </summary>
/// <remarks>
/// <code>
///   Prepare   which disks, by which method; scratch, filters and the NBD server      the guest runs
///   Cut       commands for the stop window                                           the guest is stopped
///   Begin     exports, connections, copying threads                                  the guest runs
///   Finish    waits for them, takes everything down, tells what was stored
///   Dispose   takes down whatever is still there
/// </code>
/// Calls come from the thread that owns the monitor; the copying threads only read from sockets and write files.
/// </remarks>
internal sealed class DiskCapture : IDisposable
{
    private const int Copiers = 2;
    private const int WatchMilliseconds = 50;
    private readonly IQmpMonitor _qmp;
    private readonly IReadOnlyList<(VmDisk Disk, string? NotCopied)> _disks;
    private readonly IReadOnlyList<CapturedDisk> _copied;
    private readonly CaptureProgress _progress;
    private readonly ConcurrentDictionary<int, DiskCopyResult> _results = new();
    private readonly List<Thread> _threads = [];
    private readonly CancellationTokenSource _cancel = new();
    private readonly int _pid;
    private readonly IDiskMethod? _method;
    private NbdExports? _nbd;
    private Exception? _failure;
    private int _running;

    private DiskCapture(IQmpMonitor qmp, int pid, IReadOnlyList<(VmDisk, string?)> disks, IReadOnlyList<CapturedDisk> copied, IDiskMethod? method, CaptureProgress progress) =>
        (_qmp, _pid, _disks, _copied, _method, _progress) = (qmp, pid, disks, copied, method, progress);

    /// <summary>Chooses disks and method and prepares QEMU; the guest runs on.</summary>
    /// <exception cref="CaptureRefusedException">A disk asked for is not there, a job or an export of somebody else is, or there is no room for scratch.</exception>
    internal static DiskCapture Prepare(CaptureOptions options, IQmpMonitor qmp, int pid, CaptureProgress progress)
    {
        IReadOnlyList<(VmDisk Disk, string? NotCopied)> disks = options.Disks.Of(VmDisk.ReadAll(qmp));
        List<CapturedDisk> copied = [];
        if (options.DiskMethod != DiskMethod.VolumeSnapshot)
            copied.AddRange(disks.Where(d => d.NotCopied is null).Select((d, i) => new CapturedDisk(i, d.Disk)));
        if (copied.Count == 0)
            return new DiskCapture(qmp, pid, disks, copied, null, progress);
        BlockJobs.RefuseBusy(qmp);
        long limit = ScratchSpace.LimitIn(options.ScratchDirectory, options.ScratchLimit, copied.Count);
        long[] shares = ScratchSpace.Share([.. copied.Select(c => c.Disk.VirtualSize)], limit);
        (IDiskMethod method, string? reason) = Choose(options, qmp, copied, shares);
        DiskCapture capture = new(qmp, pid, disks, copied, method, progress) { MethodReason = reason };
        try
        {
            capture._nbd = NbdExports.Start(qmp, options.ScratchDirectory);
            method.Prepare();
            return capture;
        }
        catch
        {
            capture.Dispose();
            throw;
        }
    }

    /// <summary>Adds what fixes the disks' point in time; null: no disk is cut.</summary>
    internal Action<QmpBatch>? Cut => _method is null ? null : _method.AddCut;

    /// <summary>Why this method; null: it was asked for, or none was needed.</summary>
    internal string? MethodReason { get; private init; }

    /// <summary>The disks that the storage is to cut while the guest is held.</summary>
    internal IReadOnlyList<ManifestDisk> Held() => [.. DiskRecords.Of(_disks, [], _results, null, null, _pid).Where(d => d.Note is null)];

    /// <summary>What a device had before the cut put a node of ours in its place; any other node is itself.</summary>
    internal string Below(string node) =>
        _copied.FirstOrDefault(c => node == AgentNames.Filter(c.Number) || node == AgentNames.Overlay(c.Number))?.Disk.NodeName ?? node;

    /// <summary>Whether every copy has ended, well or not.</summary>
    internal bool IsDone => Volatile.Read(ref _running) == 0;

    /// <summary>The first failure of a copy, null while all is well.</summary>
    internal Exception? Failure => Volatile.Read(ref _failure);

    /// <summary>Cuts the disks now, outside the stop window: only for the test that proves that the place matters.</summary>
    internal void CutLate()
    {
        QmpBatch batch = new();
        _method?.AddCut(batch);
        batch.Send(_qmp);
        while (!batch.IsDone)
        {
            batch.Poll(_qmp);
            Thread.Sleep(1);
        }
    }

    /// <summary>Begins to copy; the guest runs again.</summary>
    /// <param name="directory">Where the files go.</param>
    /// <param name="limit">The rate that RAM and disks share.</param>
    internal void Begin(SnapshotDirectoryWriter directory, BandwidthLimit limit)
    {
        if (_method is null)
            return;
        int connections = Math.Clamp(AgentNames.MostConnections / 2 / _copied.Count, 1, _copied.Count <= 2 ? 4 : 2);
        ConcurrentQueue<(CapturedDisk Disk, IReadOnlyList<UnixSocket> Connections, bool CanTrim)> work = new();
        foreach (CapturedDisk disk in _copied)
        {
            (string node, bool canTrim) = _method.Expose(disk);
            work.Enqueue((disk, _nbd!.Export(AgentNames.Export(disk.Number), node, canTrim, connections), canTrim));
        }
        _running = Math.Min(Copiers, _copied.Count);
        _threads.Add(AgentThread.Start("scratch", Watch, Fail));
        for (int i = _running; i > 0; i--)
        {
            _threads.Add(AgentThread.Start("disk", () =>
            {
                try
                {
                    while (work.TryDequeue(out var next))
                        Copy(directory, limit, next.Disk, next.Connections, next.CanTrim);
                }
                catch (Exception e)
                {
                    Fail(e); // before it counts as ended
                }
                finally
                {
                    Interlocked.Decrement(ref _running);
                }
            }, Fail, stackBytes: 512 * 1024));
        }
    }

    /// <summary>Waits for the copies and puts the block graph back.</summary>
    /// <param name="volumeSnapshots">VolumeSnapshots by disk, where the storage made the cut.</param>
    /// <returns>What the manifest says of the disks.</returns>
    /// <exception cref="CaptureFailedException">A copy failed, or the graph could not be put back.</exception>
    internal DiskRecords Finish(IReadOnlyDictionary<string, string>? volumeSnapshots = null)
    {
        foreach (Thread t in _threads)
            t.Join();
        string? left = TakeDown();
        if (Failure is { } failure)
            throw failure;
        if (left is not null)
            throw new CaptureFailedException("BlockGraphNotRestored", $"QEMU's block graph could not be put back as it was: {left}. The next capture of this VM tries again");
        return new DiskRecords(DiskRecords.Of(_disks, _copied, _results, _method?.Name, volumeSnapshots, _pid), DiskRecords.FilesOf(_copied, _results),
            volumeSnapshots is not null ? DiskMethods.VolumeSnapshot : _method?.Name, MethodReason);
    }

    private void Fail(Exception e)
    {
        Interlocked.CompareExchange(ref _failure, e, null);
        _cancel.Cancel();
    }

    private void Watch()
    {
        while (!IsDone && !_cancel.IsCancellationRequested)
        {
            if (_method!.Danger() is { } danger)
                Fail(danger);
            Thread.Sleep(WatchMilliseconds);
        }
    }

    private void Copy(SnapshotDirectoryWriter directory, BandwidthLimit limit, CapturedDisk disk, IReadOnlyList<UnixSocket> connections, bool canTrim)
    {
        string name = ManifestDisk.FileOf(disk.Disk.Name);
        using SafeFileHandle file = directory.CreateFile(name);
        DiskCopyHooks hooks = new()
        {
            Total = bytes => _progress.AddDiskTotal(bytes),
            Copied = bytes =>
            {
                _progress.AddDiskCopied(bytes);
                limit.Spend(bytes, _cancel.Token);
            },
            Trim = canTrim,
            SingleClusters = _method!.ReadSingleClusters,
        };
        try
        {
            _nbd!.Connect(connections);
            _results[disk.Number] = DiskCopy.Run(connections, AgentNames.Export(disk.Number), file, name, hooks, _cancel.Token);
        }
        catch (NbdException e)
        {
            throw _method!.WhyUnreadable() ?? new CaptureFailedException("DiskReadFailed", $"disk {disk.Disk.Name} could not be read as it was: {e.Message}; no snapshot was kept", e);
        }
    }

    private static (IDiskMethod Method, string? Reason) Choose(CaptureOptions options, IQmpMonitor qmp, IReadOnlyList<CapturedDisk> copied, long[] shares)
    {
        string? cannotFilter = qmp.QemuVersion < CopyBeforeWrite.FirstQemu ? $"QEMU {qmp.QemuVersion} has no copy-before-write filter that spares the guest (7.1 has)"
            : IoThreads.FilterAborts(qmp) is { } device ? $"device {device} has an iothread, and QEMU {qmp.QemuVersion} may abort when a filter is put above a disk of such a device (9.0 does not)"
            : null;
        if (options.DiskMethod == DiskMethod.Overlay || options.DiskMethod == DiskMethod.Auto && cannotFilter is not null)
            return (new Overlay(qmp, copied, options.ScratchDirectory, shares), options.DiskMethod == DiskMethod.Overlay ? null : cannotFilter);
        return cannotFilter is null
            ? (new CopyBeforeWrite(qmp, copied, options.ScratchDirectory, shares), null)
            : throw new CaptureRefusedException("QemuTooOld", $"--disk-method copy-before-write cannot be used: {cannotFilter}; use overlay");
    }

    private string? TakeDown()
    {
        if (_method is null)
            return null;
        Undo undo = new();
        _nbd?.TakeDown(undo);
        string? left = _method.TakeDown();
        return undo.Problem ?? left;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cancel.Cancel();
        foreach (Thread t in _threads)
            t.Join();
        _ = TakeDown();
        _nbd?.Dispose();
        _cancel.Dispose();
    }
}
