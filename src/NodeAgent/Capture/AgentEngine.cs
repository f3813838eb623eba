using System.Text.Json;
using Bgsnap.NodeAgent.Disks.Graph;
using Bgsnap.NodeAgent.GuestAgent;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;
using Bgsnap.NodeAgent.Streams;
using Bgsnap.NodeAgent.Vm;

namespace Bgsnap.NodeAgent.Capture;

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
internal static class AgentEngine
{
    private const int FaultPriority = 20;
    private const int FileWriters = 2;
    private static readonly TimeSpan Slice = TimeSpan.FromMilliseconds(50);

    internal static CaptureSummary Run(
        CaptureOptions options,
        string reason,
        IQmpMonitor qmp,
        QemuProcess qemu,
        MachineFacts facts,
        bool reportsFreePages,
        Quiesce quiesce,
        HoldGate hold,
        CaptureProgress progress,
        Timeline time,
        CancellationToken cancel
    )
    {
        IReadOnlyList<RamBlock> blocks = FindRam(facts);
        if (reportsFreePages && blocks.Any(b => b.Kind != RamKind.Anonymous))
            throw new CaptureRefusedException(
                "DeviceUnsupported",
                "the balloon has free-page-reporting=on and the guest's memory is a file (memfd, tmpfs or hugetlbfs): QEMU would "
                    + "punch holes into it before it announces them, or without; switch free page reporting off, or use anonymous memory"
            );
        Guid id = Guid.NewGuid();
        progress.Snapshot = id;
        RamBlockLayout[] layout = [.. blocks.Select(b => new RamBlockLayout(b.Name, b.UsedLength, b.PageSize))];
        using SnapshotDirectoryWriter directory = SnapshotDirectoryWriter.Begin(options.Output);
        MachineFiles.Write(directory, qmp, options);
        using PageLogWriter log = directory.CreateMemory(layout, options.Compression, id);
        using GuestRam ram = new(blocks);
        using RamReader reader = new(ram, qemu.Held);
        using GranuleIndex index = new(layout);
        using GranuleLedger ledger = new(index.Count);
        int workers = Math.Clamp(Environment.ProcessorCount, 1, 8);
        using CapturePipeline pipeline = new(options.StageBytes, options.Compression, workers);
        using CancellationTokenRegistration _ = cancel.Register(() => pipeline.Fail(new OperationCanceledException()));
        using Pagemap pagemap = Pagemap.Open(qemu.Held);
        using PopulationScan scan = new(ram, reader, qemu.Held);
        Encoder[] encoders =
        [
            .. Enumerable.Range(0, workers).Select(_ => new Encoder(pipeline, options.Compression, index, ledger, log, pipeline.Outputs)),
        ];
        Threads threads = new();
        Threads sweepers = new();
        Threads writers = new();
        LatencyHistogram latency = new();
        bool copied = false;
        // Disposed after the window, which resumes the guest first.
        using DiskCapture disks = DiskCapture.Prepare(options, qmp, qemu.Held, progress);
        bool cutLate = TestHooks.Is("skip", "disk-cut");
        using StopWindow window = new(
            qmp,
            qemu.Held,
            facts,
            cutLate ? null : disks.Cut,
            options.After == AfterCapture.Stop,
            options.HoldGuest
        );
        long balloon = BalloonWatch.Begin(qmp);
        MigrationWatch migration = new(qmp);
        time.Mark("prepared");
        progress.Phase = "Protecting";
        using GuestWatch watch = GuestWatch.Begin(options.MaxDowntime);
        Userfaultfd uffd = UserfaultfdSource.Obtain(qmp, qemu.Held);
        // Does not go through this thread, which may be waiting for an answer from QEMU, which may be waiting for a page.
        void FreeGuest()
        {
            uffd.Dispose();
            watch.NothingIsProtected();
        }
        pipeline.FreeBy(FreeGuest);
        window.Free = FreeGuest;
        try
        {
            time.Mark("userfaultfd");
            ProtectionNotes notes = new();
            WriteProtection protection = new(ram, uffd, scan, notes);
            Sweep sweep = new(ram);
            ProtectedMemory memory = new(reader, uffd, pagemap);
            Release release = new(pipeline, ram, memory, ledger, progress);
            Discards discards = new(ram, uffd.Features.HasFlag(UffdFeatures.WpUnpopulated));
            FaultServer faults = new(pipeline, ram, memory, sweep, release, notes, discards, progress, watch.Add(), options.MaxDowntime);
            latency = faults.Latency;
            BandwidthLimit limit = new(options.BandwidthLimit);

            // Every thread that a page may wait for starts before the first page is protected: from here to the file, no step needs an
            // answer from QEMU.
            SweepGate begin = new();
            for (int i = 0; i < FileWriters; i++)
            {
                writers.Add(pipeline.Start("file", () => WriteRuns(pipeline, pipeline.Stage, pipeline.Encoded, log, ledger, progress)));
                if (pipeline.Outputs is { } outputs)
                    writers.Add(pipeline.Start("file", () => WriteRuns(pipeline, outputs, pipeline.EncodedOutputs, log, ledger, progress)));
            }
            foreach (Encoder e in encoders)
                sweepers.Add(pipeline.Start("sweep", new SweepWorker(pipeline, ram, sweep, release, limit, e, begin, watch.Add()).Run));
            threads.Add(pipeline.Start("faults", faults.Run, FaultPriority));
            protection.Register();
            if (!uffd.Features.HasFlag(UffdFeatures.WpUnpopulated))
                scan.FillHoles();
            scan.ScanAll();
            protection.ProtectAhead(pipeline);
            time.Mark("protected-ahead");
            TestHooks.After("protected-ahead");
            quiesce.Freeze();
            time.Mark("quiesced");

            // If the pipeline failed or was cancelled meanwhile, no thread serves pages any more: do not even stop the guest.
            pipeline.ThrowIfFailed();
            progress.Phase = "Stopped";
            // The downtime is not limited if the guest is paused already or is to stay stopped.
            GuestWatch.Heartbeat? stopped =
                options.After != AfterCapture.Stop && qmp.IsRunning() ? watch.AddWindow(options.MaxDowntime) : null;
            window.Run(
                options.MaxDowntime,
                () =>
                {
                    faults.OpenWindow(whileBusy =>
                    {
                        pipeline.ThrowIfFailed();
                        if (!TestHooks.Is("skip", "protection"))
                            protection.ProtectAtPointInTime(whileBusy);
                        else
                            ram.BeginWindow();
                        memory.RefuseBlindKernel(ram);
                        TruthDump.Write(ram, reader);
                    });
                    // From here on the fault thread serves pages again: a QEMU device that writes to RAM while it is saved waits only for
                    // us.
                    window.NoteProtected();
                    begin.Protected();
                    if (options.DiskMethod == DiskMethod.VolumeSnapshot)
                    {
                        hold.Wait(window.StoppedAt, options.MaxDowntime, disks.Held(), progress, cancel);
                        window.NoteHeld();
                    }
                },
                moment =>
                {
                    time.Mark(moment);
                    if (moment == "stop-sent")
                        stopped?.Touch();
                    else if (moment == "resumed")
                        stopped?.Rest();
                }
            );
            begin.Open();
            quiesce.Thaw();
            if (cutLate)
                disks.CutLate();
            progress.TotalBytes = ram.ProtectedBytes;
            // A guest that was paused has no stop event: its point in time is when the agent protected its memory.
            progress.PointInTime = Clock.FromMicroseconds(
                window.StoppedAt != 0 ? window.StoppedAt : Clock.NowMicroseconds() - (time.NowMicroseconds - time.Microseconds("protected"))
            );
            progress.Phase = "Copying";

            writers.Add(pipeline.Start("stage", () => pipeline.Stage.Grow(pipeline)));
            TestHooks.After("disks-begin");
            // RAM is being copied, so there is time now to check that the machine has not changed, and to do what takes QEMU long for the
            // disks.
            disks.LookAtOthers();
            facts.Below = disks.Below;
            facts.Compare(all: true);
            disks.Begin(directory, limit);
            time.Mark("disks-exposed");
            while (ram.PendingGranules > 0 && !pipeline.IsCancelled)
            {
                BalloonWatch.Check(qmp, migration, blocks, pipeline, Slice);
                disks.Watch();
            }
            time.Mark("unprotected");
            TestHooks.After("unprotected");
            // The failure may be the volume's, and a thread that writes to it hangs: wait for the threads only if the copy did not fail.
            if (!pipeline.IsCancelled)
            {
                // Ask QEMU while the agent still reads discards: when QEMU answers, it has announced every discard it had begun.
                long heardBy = BalloonWatch.End(qmp, balloon, blocks, pipeline);
                faults.Stop();
                threads.Join();
                // No page is protected any more: from here on the guest does not depend on the agent.
                progress.Phase = "Writing";
                protection.Unregister();
                uffd.Dispose();
                watch.Dispose();
                pipeline.Copied.Close();
                sweepers.Join();
                pipeline.Encoded.Close();
                pipeline.EncodedOutputs.Close();
                writers.Join();
                while (!disks.IsDone && !pipeline.IsCancelled)
                {
                    BalloonWatch.Check(qmp, migration, blocks, pipeline, Slice);
                    disks.Watch();
                }
                BalloonWatch.ListenUntil(heardBy, qmp, migration, blocks, pipeline, Slice);
                copied = !pipeline.IsCancelled;
            }
        }
        catch (ObjectDisposedException) when (pipeline.Failure is not null)
        {
            // The failure closed the userfaultfd under this thread; it is thrown below.
        }
        finally
        {
            // Free the guest first: when the last reference is closed, the kernel lifts every protection and wakes every waiter.
            uffd.Dispose();
            // The guest no longer depends on the agent, so waiting for libvirt or a volume may take its time.
            if (progress.Phase != "Writing")
                progress.Phase = "CleaningUp";
            watch.Dispose();
            pipeline.Cancel();
            if (!copied)
            {
                // What follows may hang with the volume: the window resumes the guest first, and the parent learns the reason.
                progress.Failing = pipeline.Failure;
                window.Dispose();
            }
            threads.Join();
            sweepers.Join();
            writers.Join();
            foreach (Encoder e in encoders)
                e.Dispose();
        }
        pipeline.ThrowIfFailed();

        DiskRecords records = disks.Finish(options.DiskMethod == DiskMethod.VolumeSnapshot ? hold.VolumeSnapshots : null);
        time.Mark("disks-copied");
        PageLogSummary stored = Finish(log, index, ledger, ram.GranulesToCopy);
        WriteDeviceState(directory, window.DeviceState.ToArray());
        time.Mark("written");
        quiesce.Finish();
        CaptureSummary summary = new(
            directory.FinalPath,
            progress.PointInTime!.Value,
            "agent",
            reason,
            Math.Max(0, window.ResumedAt - window.StoppedAt),
            time.Microseconds("unprotected") - time.Microseconds("protected"),
            time.NowMicroseconds,
            latency.Count,
            latency.Percentile(0.5) / 1000,
            latency.Percentile(0.99) / 1000,
            latency.Maximum / 1000,
            blocks.Sum(b => (long)b.UsedLength),
            stored.StoredBytes,
            pipeline.HotPathAllocatedBytes,
            time.Entries
        )
        {
            Quiesce = quiesce.Outcome,
            QuiesceDetail = quiesce.Detail,
            Disks = records.Disks,
            StopWindow = window.Times,
            Paused = window.FoundPaused,
        };
        log.Dispose();
        TestHooks.After("before-commit");
        directory.Commit(
            ManifestOf.Capture(
                id,
                options,
                qemu,
                summary,
                records,
                stored,
                [.. blocks.Select(b => new ManifestRamBlock(b.Name, b.UsedLength, b.PageSize, b.Kind.ToString()))]
            )
        );
        TestHooks.After("committed");
        window.Keep();
        progress.Phase = "Done";
        return summary with { TotalMicroseconds = time.NowMicroseconds };
    }

    private static void WriteRuns(
        CapturePipeline pipeline,
        Stage stage,
        BufferQueue queue,
        PageLogWriter log,
        GranuleLedger ledger,
        CaptureProgress progress
    )
    {
        for (int number; (number = queue.Take()) >= 0; )
        {
            Stage.Buffer buffer = stage[number];
            if (!pipeline.IsCancelled)
            {
                Write(log, buffer);
                ledger.NoteWritten(buffer.Run.AsSpan(0, buffer.RunCount));
            }
            progress.AddWritten(buffer.EncodedLength);
            stage.Return(number);
        }
    }

    private static PageLogSummary Finish(PageLogWriter log, GranuleIndex index, GranuleLedger ledger, long copied)
    {
        try
        {
            return log.Finish(index, ledger, copied);
        }
        catch (InvalidOperationException e)
        {
            throw new CaptureFailedException(
                "GranulesLost",
                $"{e.Message}; nothing of this snapshot was kept. This is an error of bgsnap: please report it",
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
                "DeviceStateUnknown",
                $"QEMU's device state is not of the form that a restore could read: {e.Message}. "
                    + "Machine types before 2.4 have another; no snapshot was kept",
                e
            );
        }
        using var file = directory.CreateFile(SnapshotFormat.DeviceStateFileName);
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
            throw new EngineUnavailableException($"QEMU's memory cannot be looked at: {e.Message} (run as root, or with CAP_SYS_PTRACE)");
        }
    }
}
