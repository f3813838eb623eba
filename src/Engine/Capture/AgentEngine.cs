using System.Text.Json;
using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// The agent engine: guest RAM is copied from outside under userfaultfd write protection while the guest runs.
/// </summary>
/// <remarks>
/// <code>
///   prepare     find RAM, reserve every buffer, start every thread; nothing is allocated after this
///   ahead       the guest runs: small pages are protected, its writes are noted, not copied
///   stop window the rest is protected; device state is saved: the point in time
///   copy        sweep and fault path, each granule: claim, copy, unprotect
///   file        encode, write, index, manifest, rename
/// </code>
/// If anything goes wrong, the agent closes the userfaultfd first, which frees the guest.
/// </remarks>
internal sealed class AgentEngine : IDisposable
{
    private const int FaultPriority = 20;
    private const int FileWriters = 2;
    private static readonly TimeSpan Slice = TimeSpan.FromMilliseconds(50);

    private readonly CaptureContext _context;
    private readonly Owned _owned = new();
    private readonly Guid _id = Guid.NewGuid();
    private readonly IReadOnlyList<RamBlock> _blocks;
    private readonly SnapshotDirectoryWriter _directory;
    private readonly PageLogWriter _log;
    private readonly GuestRam _ram;
    private readonly RamReader _reader;
    private readonly GranuleIndex _index;
    private readonly GranuleLedger _ledger;
    private readonly CapturePipeline _pipeline;
    private readonly Pagemap _pagemap;
    private readonly PopulationScan _scan;
    private readonly Encoder[] _encoders;
    private readonly DiskCapture _disks;
    private readonly bool _cutLate;
    private readonly StopWindow _window;
    private readonly long _balloon;
    private readonly MigrationWatch _migration;
    private readonly GuestWatch _watch;
    private readonly Userfaultfd _uffd;
    private readonly SweepGate _begin = new();
    private readonly BandwidthLimit _limit;
    private readonly Threads _threads = new();
    private readonly Threads _sweepers = new();
    private readonly Threads _writers = new();
    private CopyParts? _parts;
    private bool _copied;

    /// <summary>Takes a snapshot of a machine that was found fit for it.</summary>
    internal static CaptureSummary Run(CaptureContext context)
    {
        using AgentEngine engine = new(context);
        try
        {
            engine.StartThreads();
            engine.ProtectAhead();
            engine.StopAndProtect();
            engine.Copy();
        }
        catch (ObjectDisposedException) when (engine._pipeline.Failure is not null)
        {
            // The failure closed the userfaultfd under this thread; it is thrown below.
            context.Quiesce.Thaw();
        }
        catch (Exception e) when (e is not (EngineUnavailableException or RefusedException))
        {
            // What follows may hang with the volume: the guest's programs do not wait for it, and the parent learns the reason. Where the
            // other engine may go on, the freeze is its.
            context.Quiesce.Thaw();
            context.Progress.Failing = e;
            throw;
        }
        finally
        {
            engine.LeaveGuest();
        }
        engine._pipeline.ThrowIfFailed();
        return engine.WriteSnapshot();
    }

    /// <summary>Prepares: finds RAM and disks, and reserves every buffer. The guest runs, and nothing is protected yet.</summary>
    private AgentEngine(CaptureContext context)
    {
        _context = context;
        (CaptureOptions options, IQmpMonitor qmp, CheckedProcess held) = (context.Options, context.Qmp, context.Qemu.Held);
        try
        {
            _blocks = FindRam(context.Facts);
            RefuseReportedFiles();
            context.Progress.Snapshot = _id;
            RamBlockLayout[] layout = [.. _blocks.Select(b => new RamBlockLayout(b.Name, b.UsedLength, b.PageSize))];
            _directory = _owned.Add(SnapshotDirectoryWriter.Begin(options.Output));
            MachineFiles.Write(_directory, qmp, options);
            _log = _owned.Add(_directory.CreateMemory(layout, options.Compression, _id));
            _ram = _owned.Add(new GuestRam(_blocks));
            _reader = _owned.Add(new RamReader(_ram, held));
            _index = _owned.Add(new GranuleIndex(layout));
            _ledger = _owned.Add(new GranuleLedger(_index.Count));
            int workers = Math.Clamp(Environment.ProcessorCount, 1, 8);
            _pipeline = _owned.Add(new CapturePipeline(options.StageBytes, options.Compression, workers));
            _owned.Add(context.Cancel.Register(() => _pipeline.Fail(new OperationCanceledException())));
            _pagemap = _owned.Add(Pagemap.Open(held));
            _scan = _owned.Add(new PopulationScan(_ram, _reader, held));
            _encoders = [.. Enumerable.Range(0, workers).Select(_ => NewEncoder())];
            // Disposed after the window, which resumes the guest first.
            _disks = _owned.Add(DiskCapture.Prepare(options, qmp, held, context.Progress));
            _cutLate = TestHooks.Is("skip", "disk-cut");
            Action<QmpBatch>? cut = _cutLate ? null : _disks.Cut;
            _window = _owned.Add(new StopWindow(qmp, held, context.Facts, cut, options.After == AfterCapture.Stop, options.HoldGuest));
            _balloon = BalloonWatch.Begin(qmp);
            _migration = new MigrationWatch(qmp);
            _limit = new BandwidthLimit(options.BandwidthLimit);
            context.Time.Mark("prepared");
            context.Progress.Phase = "Protecting";
            _watch = _owned.Add(GuestWatch.Begin(options.MaxDowntime));
            _uffd = UserfaultfdSource.Obtain(qmp, held);
            _pipeline.FreeBy(FreeGuest);
            _window.Free = FreeGuest;
        }
        catch
        {
            _owned.Dispose();
            throw;
        }
    }

    private Encoder NewEncoder() => new(_pipeline, _context.Options.Compression, _index, _ledger, _log, _pipeline.Outputs);

    private void RefuseReportedFiles()
    {
        if (_context.ReportsFreePages && _blocks.Any(b => b.Kind != RamKind.Anonymous))
            throw new RefusedException(
                Reasons.DeviceUnsupported,
                "the balloon has free-page-reporting=on and the guest's memory is a file (memfd, tmpfs or hugetlbfs): QEMU would "
                    + "punch holes into it before, or without, announcing them; switch free page reporting off, or use anonymous memory"
            );
    }

    /// <summary>Does not go through the thread that waits for an answer from QEMU, which may be waiting for a page.</summary>
    private void FreeGuest()
    {
        _uffd.Dispose();
        _watch.NothingIsProtected();
    }

    /// <summary>
    /// Starts every thread that a page may wait for, before the first page is protected: from here to the file, no step needs an answer
    /// from QEMU.
    /// </summary>
    private void StartThreads()
    {
        _context.Time.Mark("userfaultfd");
        _parts = new CopyParts(_ram, _reader, _uffd, _pagemap, _scan, _pipeline, _ledger, _context, _watch);
        for (int i = 0; i < FileWriters; i++)
        {
            _writers.Add(_pipeline.Start("file", () => WriteRuns(_pipeline.Stage, _pipeline.Encoded)));
            if (_pipeline.Outputs is { } outputs)
                _writers.Add(_pipeline.Start("file", () => WriteRuns(outputs, _pipeline.EncodedOutputs)));
        }
        foreach (Encoder e in _encoders)
        {
            SweepWorker worker = new(_pipeline, _ram, _parts.Sweep, _parts.Release, _limit, e, _begin, _watch.Add());
            _sweepers.Add(_pipeline.Start("sweep", worker.Run));
        }
        _threads.Add(_pipeline.Start("faults", _parts.Faults.Run, FaultPriority));
    }

    private void ProtectAhead()
    {
        _parts!.Protection.Register();
        if (!_uffd.Features.HasFlag(UffdFeatures.WpUnpopulated))
            _scan.FillHoles();
        _scan.ScanAll();
        _parts.Protection.ProtectAhead(_pipeline);
        _context.Time.Mark("protected-ahead");
        TestHooks.After("protected-ahead");
        _context.Quiesce.Freeze();
        _context.Time.Mark("quiesced");
    }

    /// <summary>The stop window: the snapshot's point in time.</summary>
    private void StopAndProtect()
    {
        CaptureOptions options = _context.Options;
        // If the pipeline failed or was cancelled meanwhile, no thread serves pages any more: do not even stop the guest.
        _pipeline.ThrowIfFailed();
        _context.Progress.Phase = "Stopped";
        // The downtime is not limited if the guest is paused already or is to stay stopped.
        GuestWatch.Heartbeat? stopped =
            options.After != AfterCapture.Stop && _context.Qmp.IsRunning() ? _watch.AddWindow(options.MaxDowntime) : null;
        _window.Run(options.MaxDowntime, ProtectInWindow, moment =>
        {
            _context.Time.Mark(moment);
            if (moment == "stop-sent")
                stopped?.Touch();
            else if (moment == "resumed")
                stopped?.Rest();
        });
    }

    private void ProtectInWindow()
    {
        CaptureOptions options = _context.Options;
        _parts!.Faults.OpenWindow(whileBusy =>
        {
            _pipeline.ThrowIfFailed();
            if (!TestHooks.Is("skip", "protection"))
                _parts.Protection.ProtectAtPointInTime(whileBusy);
            else
                _ram.BeginWindow();
            _parts.Memory.RefuseBlindKernel(_ram);
            ReferenceDump.Write(_ram, _reader);
        });
        // From here on the fault thread serves pages again: a QEMU device that writes to RAM while it is saved waits only for us.
        _window.NoteProtected();
        _begin.Protected();
        if (options.DiskMethod == DiskMethod.VolumeSnapshot)
        {
            _context.Hold.Wait(_window.StoppedAt, options.MaxDowntime, _disks.Held(), _context.Progress, _context.Cancel);
            _window.NoteHeld();
        }
    }

    /// <summary>Copies RAM and disks while the guest runs.</summary>
    private void Copy()
    {
        _begin.Open();
        _context.Quiesce.Thaw();
        if (_cutLate)
            _disks.CutLate();
        NotePointInTime();
        _context.Progress.Phase = "Copying";
        _writers.Add(_pipeline.Start("stage", () => _pipeline.Stage.Grow(_pipeline)));
        TestHooks.After("disks-begin");
        // RAM is being copied, so there is time now to check that the machine has not changed, and for what takes QEMU long with disks.
        _disks.LookAtOthers();
        _context.Facts.Below = _disks.Below;
        _context.Facts.Compare(all: true);
        _disks.Begin(_directory, _limit);
        _context.Time.Mark("disks-exposed");
        while (_ram.PendingGranules > 0 && !_pipeline.IsCancelled)
            WatchGuest();
        _context.Time.Mark("unprotected");
        TestHooks.After("unprotected");
        // The failure may be the volume's, and a thread that writes to it hangs: wait for the threads only if the copy did not fail.
        if (!_pipeline.IsCancelled)
            EndCopy();
    }

    private void NotePointInTime()
    {
        Timeline time = _context.Time;
        _context.Progress.TotalBytes = _ram.ProtectedBytes;
        // A guest that was paused has no stop event: its point in time is when the agent protected its memory.
        _context.Progress.PointInTime = Clock.FromMicroseconds(
            _window.StoppedAt != 0 ? _window.StoppedAt : Clock.NowMicroseconds() - (time.NowMicroseconds - time.Microseconds("protected"))
        );
    }

    private void WatchGuest()
    {
        BalloonWatch.Check(_context.Qmp, _migration, _blocks, _pipeline, Slice);
        _disks.Watch();
    }

    /// <summary>All RAM is copied: ends the protection, and then waits for the file and the disks.</summary>
    private void EndCopy()
    {
        // Ask QEMU while the agent still reads discards: when QEMU answers, it has announced every discard it had begun.
        long heardBy = BalloonWatch.End(_context.Qmp, _balloon, _blocks, _pipeline);
        _parts!.Faults.Stop();
        _threads.Join();
        // No page is protected any more: from here on the guest does not depend on the agent.
        _context.Progress.Phase = "Writing";
        _parts.Protection.Unregister();
        _uffd.Dispose();
        _watch.Dispose();
        _pipeline.Copied.Close();
        _sweepers.Join();
        _pipeline.Encoded.Close();
        _pipeline.EncodedOutputs.Close();
        _writers.Join();
        while (!_disks.IsDone && !_pipeline.IsCancelled)
            WatchGuest();
        BalloonWatch.ListenUntil(heardBy, _context.Qmp, _migration, _blocks, _pipeline, Slice);
        _copied = !_pipeline.IsCancelled;
    }

    /// <summary>
    /// Frees the guest, however the copy ended: when the last reference to the userfaultfd is closed, the kernel lifts every protection and
    /// wakes every waiter.
    /// </summary>
    private void LeaveGuest()
    {
        _uffd.Dispose();
        // The guest no longer depends on the agent, so waiting for libvirt or a volume may take its time.
        if (_context.Progress.Phase != "Writing")
            _context.Progress.Phase = "CleaningUp";
        _watch.Dispose();
        _pipeline.Cancel();
        if (!_copied)
        {
            // What follows may hang with the volume: the window resumes the guest first, and the parent learns the reason.
            _context.Progress.Failing ??= _pipeline.Failure;
            _window.Dispose();
        }
        _threads.Join();
        _sweepers.Join();
        _writers.Join();
        foreach (Encoder e in _encoders)
            e.Dispose();
    }

    /// <summary>Completes the files and publishes the snapshot.</summary>
    private CaptureSummary WriteSnapshot()
    {
        CaptureOptions options = _context.Options;
        Timeline time = _context.Time;
        DiskRecords records = _disks.Finish(options.DiskMethod == DiskMethod.VolumeSnapshot ? _context.Hold.VolumeSnapshots : null);
        time.Mark("disks-copied");
        PageLogSummary stored = Finish(_log, _index, _ledger, _ram.GranulesToCopy);
        WriteDeviceState(_directory, _window.DeviceState.ToArray());
        time.Mark("written");
        _context.Quiesce.Finish();
        CaptureSummary summary = Summarize(records, stored);
        _log.Dispose();
        TestHooks.After("before-commit");
        ManifestRamBlock[] ram = [.. _blocks.Select(b => new ManifestRamBlock(b.Name, b.UsedLength, b.PageSize, b.Kind.ToString()))];
        _directory.Commit(ManifestBuilder.Capture(_id, options, _context.Qemu, summary, records, stored, ram));
        TestHooks.After("committed");
        _window.Keep();
        TestHooks.After("kept");
        _context.Progress.Phase = "Done";
        return summary with { TotalMicroseconds = time.NowMicroseconds };
    }

    private CaptureSummary Summarize(DiskRecords records, PageLogSummary stored)
    {
        Timeline time = _context.Time;
        LatencyHistogram latency = _parts!.Faults.Latency;
        return new(
            _directory.FinalPath,
            _context.Progress.PointInTime!.Value,
            "agent",
            _context.Reason,
            Math.Max(0, _window.ResumedAt - _window.StoppedAt),
            time.Microseconds("unprotected") - time.Microseconds("protected"),
            time.NowMicroseconds,
            latency.Count,
            latency.Percentile(0.5) / 1000,
            latency.Percentile(0.99) / 1000,
            latency.Maximum / 1000,
            _blocks.Sum(b => (long)b.UsedLength),
            stored.StoredBytes,
            _pipeline.HotPathAllocatedBytes,
            time.Entries
        )
        {
            Quiesce = _context.Quiesce.Outcome,
            QuiesceDetail = _context.Quiesce.Detail,
            Disks = records.Disks,
            StopWindow = _window.Times,
            Paused = _window.FoundPaused,
        };
    }

    private void WriteRuns(Stage stage, BufferQueue queue)
    {
        for (int number; (number = queue.Take()) >= 0; )
        {
            Stage.Buffer buffer = stage[number];
            if (!_pipeline.IsCancelled)
            {
                Write(_log, buffer);
                _ledger.NoteWritten(buffer.Run.AsSpan(0, buffer.RunCount));
            }
            _context.Progress.AddWritten(buffer.EncodedLength);
            stage.Return(number);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _owned.Dispose();

    private static PageLogSummary Finish(PageLogWriter log, GranuleIndex index, GranuleLedger ledger, long copied)
    {
        try
        {
            return log.Finish(index, ledger, copied);
        }
        catch (InvalidOperationException e)
        {
            throw new CaptureFailedException(
                Reasons.GranulesLost,
                $"{e.Message}; no snapshot was kept. This is a defect of bgsnap: please report it",
                e
            );
        }
    }

    private static unsafe void Write(PageLogWriter log, Stage.Buffer buffer) =>
        log.WriteRun(buffer.Memory, buffer.EncodedLength, buffer.FileOffset);

    private static void WriteDeviceState(SnapshotDirectoryWriter directory, byte[] state)
    {
        try
        {
            // Parse it as a restore will: a state that a restore cannot read is no snapshot.
            _ = DeviceStateFile.Parse(state);
        }
        catch (MigrationStreamException e)
        {
            throw new CaptureFailedException(
                Reasons.DeviceStateUnknown,
                $"QEMU's device state does not have the form that a restore reads: {e.Message}. "
                    + "Machine types before 2.4 have another form: use a newer one. No snapshot was kept",
                e
            );
        }
        using var file = directory.CreateFile(FormatV1.DeviceStateFileName);
        RandomAccess.Write(file, state, 0);
    }

    private static IReadOnlyList<RamBlock> FindRam(MachineFacts facts)
    {
        try
        {
            facts.Establish(MachineFacts.Since.BeforeMemory);
            return facts.Blocks;
        }
        catch (UnauthorizedAccessException e)
        {
            throw new EngineUnavailableException(
                $"the agent may not read QEMU's memory: {e.Message} (run as root, or with " + "CAP_SYS_PTRACE)"
            );
        }
    }
}
