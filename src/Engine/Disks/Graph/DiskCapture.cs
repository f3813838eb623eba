using System.Collections.Concurrent;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// The disks of a capture: cut at the point in time, copied in parallel with RAM; afterwards QEMU's block graph is restored.
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
    private const int MostMapped = 16;
    private readonly IQmpMonitor _qmp;
    private readonly IReadOnlyList<(VmDisk Disk, string? NotCopied)> _disks;
    private readonly IReadOnlyList<CapturedDisk> _copied;
    private readonly CaptureProgress _progress;
    private readonly ConcurrentDictionary<int, DiskCopyResult> _results = new();
    private readonly List<Thread> _threads = [];
    private readonly CancellationTokenSource _cancel = new();
    private readonly CheckedProcess _qemu;
    private readonly IDiskMethod? _method;
    private readonly MonitorRequests _requests = new();
    private NbdExports? _nbd;
    private DiskWatch? _watch;
    private Exception? _failure;
    private int _running;
    private bool _takenDown;

    private DiskCapture(
        IQmpMonitor qmp,
        CheckedProcess qemu,
        IReadOnlyList<(VmDisk, string?)> disks,
        IReadOnlyList<CapturedDisk> copied,
        IDiskMethod? method,
        CaptureProgress progress
    ) => (_qmp, _qemu, _disks, _copied, _method, _progress) = (qmp, qemu, disks, copied, method, progress);

    /// <summary>Chooses disks and method and prepares QEMU, while the guest continues.</summary>
    /// <exception cref="RefusedException">A requested disk does not exist, another client has a job or an export, or there is no
    /// room for scratch.</exception>
    internal static DiskCapture Prepare(CaptureOptions options, IQmpMonitor qmp, CheckedProcess qemu, CaptureProgress progress)
    {
        IReadOnlyList<(VmDisk Disk, string? NotCopied)> disks = options.Disks.Of(VmDisk.WithEncryption(qmp, VmDisk.ReadAll(qmp)));
        List<CapturedDisk> copied = [];
        if (options.DiskMethod != DiskMethod.VolumeSnapshot)
            copied.AddRange(disks.Where(d => d.NotCopied is null).Zip(FreeNumbers(qmp), (d, number) => new CapturedDisk(number, d.Disk)));
        if (copied.Count == 0)
            return new DiskCapture(qmp, qemu, disks, copied, null, progress);
        BlockJobs.RefuseBusy(qmp, [.. copied.Select(c => c.Disk)]);
        if (!options.DecryptDisks)
            DiskChoice.RefuseEncrypted(copied);
        DiskChoice.RefuseShared(copied, disks.Select(d => d.Disk));
        long limit = ScratchSpace.LimitIn(options.ScratchDirectory, options.ScratchLimit, copied.Count);
        long[] shares = ScratchSpace.Share([.. copied.Select(c => c.Disk.VirtualSize)], limit);
        IDiskMethod method = DiskChoice.Method(options, qmp, copied, shares);
        DiskCapture capture = new(qmp, qemu, disks, copied, method, progress);
        try
        {
            capture._nbd = NbdExports.Start(qmp, options.ScratchDirectory);
            foreach (CapturedDisk d in copied)
            {
                if (capture.MapsHoles)
                    Bitmaps.Track(qmp, d.Number, d.Disk.NodeName);
                capture._nbd.Guard(d.Number, d.Disk.NodeName);
            }
            method.Prepare();
            capture._watch = new DiskWatch(qmp, copied, method);
            return capture;
        }
        catch
        {
            capture.Dispose();
            throw;
        }
    }

    /// <summary>Numbers that no node of an earlier capture uses. Other clients may have kept such a node from being removed.</summary>
    private static IEnumerable<int> FreeNumbers(IQmpMonitor qmp)
    {
        HashSet<int> taken = [.. NodeGraph.Read(qmp).Nodes.Where(AgentNames.IsOurs).Select(AgentNames.NumberOf)];
        return Enumerable.Range(0, int.MaxValue).Where(n => !taken.Contains(n));
    }

    /// <summary>
    /// A QEMU that must be read cluster by cluster cannot report the zeros of a snapshot either, so an empty disk would take as long as a
    /// full one. Then the agent finds the zeros in the image itself, but not for so many disks that there would not be enough connections.
    /// </summary>
    private bool MapsHoles => _method is { ReadSingleClusters: true } && _copied.Count <= MostMapped;

    /// <summary>Adds the commands that fix the disks' point in time; null if no disk is cut.</summary>
    internal Action<QmpBatch>? Cut => _method is null ? null : _method.AddCut;

    /// <summary>The disks that the storage cuts while the guest is held.</summary>
    internal IReadOnlyList<ManifestDisk> Held() => [.. DiskRecords.Of(_disks, [], _results, null, null, _qemu).Where(d => d.Note is null)];

    /// <summary>The node a device had before it got one of ours; for any other node, the node itself.</summary>
    internal string Below(string node) =>
        _copied.FirstOrDefault(c => node == AgentNames.Disk(c.Number) || node == AgentNames.Overlay(c.Number))?.Disk.NodeName ?? node;

    /// <summary>Whether every copy has ended, successfully or not.</summary>
    internal bool IsDone => Volatile.Read(ref _running) == 0;

    /// <summary>The first failure of a copy, or null.</summary>
    internal Exception? Failure => Volatile.Read(ref _failure);

    /// <summary>Cuts the disks now, outside the stop window: only for the test that proves that the moment of the cut matters.</summary>
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

    /// <summary>Starts copying; the guest runs again.</summary>
    /// <param name="directory">Where the files go.</param>
    /// <param name="limit">The rate that RAM and disks share.</param>
    internal void Begin(SnapshotDirectoryWriter directory, BandwidthLimit limit)
    {
        if (_method is null)
            return;
        int connections = Math.Clamp(AgentNames.MostConnections / 2 / _copied.Count, 1, _copied.Count <= 2 ? 4 : 2);
        ConcurrentQueue<CopyWork> work = new();
        foreach (CapturedDisk disk in _copied)
        {
            (string node, bool canTrim) = _method.Expose(disk);
            IReadOnlyList<UnixSocket> made = _nbd!.Export(AgentNames.Export(disk.Number), node, canTrim, connections);
            work.Enqueue(new CopyWork(disk, made, canTrim, MapsHoles ? _nbd.Sockets(1) : []));
        }
        _running = Math.Min(Copiers, _copied.Count);
        _threads.Add(AgentThread.Start("scratch", WatchScratch, Fail));
        for (int i = _running; i > 0; i--)
        {
            _threads.Add(
                AgentThread.Start(
                    "disk",
                    () =>
                    {
                        try
                        {
                            while (work.TryDequeue(out CopyWork? next))
                                Copy(directory, limit, next);
                        }
                        catch (Exception e)
                        {
                            Fail(e); // before it counts as ended
                        }
                        finally
                        {
                            Interlocked.Decrement(ref _running);
                        }
                    },
                    Fail,
                    stackBytes: 512 * 1024
                )
            );
        }
    }

    /// <summary>Checks whether other clients have begun to work on the disks; called right after the cut.</summary>
    /// <exception cref="CaptureFailedException">Another client works on a disk.</exception>
    internal void LookAtOthers() => _watch?.Look();

    /// <summary>
    /// Checks now and then what other clients do to the disks; called while RAM and disks are copied. If it finds something, it ends the
    /// copying at once, and trimming with it.
    /// </summary>
    /// <exception cref="CaptureFailedException">Another client works on a disk.</exception>
    internal void Watch()
    {
        try
        {
            _requests.Serve();
            _watch?.LookNowAndThen();
        }
        catch (Exception e)
        {
            Fail(e);
            throw;
        }
    }

    /// <summary>Waits for the copies and restores the block graph.</summary>
    /// <param name="volumeSnapshots">VolumeSnapshots by disk, where the storage made the cut.</param>
    /// <returns>The manifest's records of the disks.</returns>
    /// <exception cref="CaptureFailedException">A copy failed, or the graph could not be restored.</exception>
    internal DiskRecords Finish(IReadOnlyDictionary<string, string>? volumeSnapshots = null)
    {
        foreach (Thread t in _threads)
            t.Join();
        if (Failure is null)
            LookOnceMore();
        string? left = TakeDown();
        if (Failure is { } failure)
            throw failure;
        if (left is not null)
            throw new CaptureFailedException(
                Reasons.BlockGraphNotRestored,
                $"the agent could not put QEMU's block graph back as it was: {left}. The next capture of this VM tries again"
            );
        return new DiskRecords(
            DiskRecords.Of(_disks, _copied, _results, _method?.Name, volumeSnapshots, _qemu),
            DiskRecords.FilesOf(_copied, _results),
            volumeSnapshots is not null ? DiskMethods.VolumeSnapshot : _method?.Name
        );
    }

    private void LookOnceMore()
    {
        try
        {
            _watch?.Look();
        }
        catch (Exception e)
        {
            Fail(e);
        }
    }

    private void Fail(Exception e)
    {
        Interlocked.CompareExchange(ref _failure, e, null);
        _cancel.Cancel();
    }

    private void WatchScratch()
    {
        while (!IsDone && !_cancel.IsCancellationRequested)
        {
            if (_method!.Danger() is { } danger)
                Fail(danger);
            Thread.Sleep(WatchMilliseconds);
        }
    }

    private void Copy(SnapshotDirectoryWriter directory, BandwidthLimit limit, CopyWork work)
    {
        CapturedDisk disk = work.Disk;
        string name = ManifestDisk.FileOf(disk.Disk.Name);
        using SafeFileHandle file = directory.CreateFile(name);
        DiskCopyHooks Hooks(HoleMap? holes) =>
            new()
            {
                Holes = holes,
                Total = bytes => _progress.AddDiskTotal(bytes),
                Copied = bytes =>
                {
                    _progress.AddDiskCopied(bytes);
                    limit.Spend(bytes, _cancel.Token);
                },
                Trim = work.CanTrim,
                SingleClusters = _method!.ReadSingleClusters,
            };
        try
        {
            HoleMap? holes = MapOf(disk, work.Guard);
            _nbd!.Connect(work.Connections);
            _results[disk.Number] = DiskCopy.Run(work.Connections, AgentNames.Export(disk.Number), file, name, Hooks(holes), _cancel.Token);
        }
        catch (NbdException e)
        {
            throw _method!.WhyUnreadable()
                ?? new CaptureFailedException(
                    Reasons.DiskReadFailed,
                    $"disk {disk.Disk.Name} could not be read as it was at the point in time: {e.Message}; no snapshot was kept",
                    e
                );
        }
    }

    private HoleMap? MapOf(CapturedDisk disk, IReadOnlyList<UnixSocket> guard)
    {
        if (guard.Count == 0)
            return null;
        _nbd!.Connect(guard);
        return HoleMap.Read(NbdClient.Negotiate(guard[0], AgentNames.Guard(disk.Number), _cancel.Token), () =>
        {
            (string bitmap, string image, UnixSocket? socket) = (AgentNames.Changed(disk.Number), disk.Disk.NodeName, null);
            _requests.Run(
                () =>
                {
                    Bitmaps.StopTracking(_qmp, disk.Number, image);
                    socket = _nbd.ExportBitmap(bitmap, image, bitmap);
                },
                _cancel.Token
            );
            _nbd.Connect([socket!]);
            return NbdClient.NegotiateBitmap(socket!, bitmap, bitmap, _cancel.Token);
        });
    }

    /// <summary>The next work of a copying thread.</summary>
    /// <param name="Disk">The disk.</param>
    /// <param name="Connections">Connections to its export.</param>
    /// <param name="CanTrim">Whether what has been read can be trimmed.</param>
    /// <param name="Guard">Connection to the export of the image itself, to find holes; may be null.</param>
    private sealed record CopyWork(CapturedDisk Disk, IReadOnlyList<UnixSocket> Connections, bool CanTrim, IReadOnlyList<UnixSocket> Guard);

    private string? TakeDown()
    {
        if (_method is null || _takenDown)
            return null;
        Undo undo = new();
        _nbd?.TakeDown(undo);
        if (MapsHoles)
            undo.Try(() => Bitmaps.RemoveOurs(_qmp, undo));
        string? left = _method.TakeDown();
        _takenDown = undo.Problem is null && left is null;
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
