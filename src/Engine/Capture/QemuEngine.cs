using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// The qemu engine: the workflow of the KVM Forum 2018 talk. QEMU stops itself, saves its devices, protects its memory and sends it page by
/// page; the agent reads the stream and writes the same files as the other engine.
/// </summary>
/// <remarks>
/// QEMU first sends the pages that the guest waits for, so a granule's pages arrive scattered. The agent puts them into place in a sparse,
/// unnamed file, and packs that file long after the guest is free again. If the agent dies, QEMU's migration fails and the guest continues.
/// </remarks>
internal static class QemuEngine
{
    private const string DescriptorName = "agent-bgsnap-outgoing";
    private const int Slice = 50;

    internal static CaptureSummary Run(
        CaptureOptions options,
        string reason,
        IQmpMonitor qmp,
        QemuProcess qemu,
        MachineFacts facts,
        Quiesce quiesce,
        CaptureProgress progress,
        Timeline time,
        CancellationToken cancel
    )
    {
        RefusePaused(qmp, facts);
        if (options.After == AfterCapture.Stop || options.DiskMethod == DiskMethod.VolumeSnapshot)
            throw new EngineUnavailableException(
                "QEMU's own engine resumes the guest by itself: "
                    + $"{(options.After == AfterCapture.Stop ? "--after stop" : "--disk-method volume-snapshot")} needs the agent engine "
                    + $"({reason})"
            );
        Guid id = Guid.NewGuid();
        progress.Snapshot = id;
        using SnapshotDirectoryWriter directory = SnapshotDirectoryWriter.Begin(options.Output);
        MachineFiles.Write(directory, qmp, options);
        using DiskCapture disks = DiskCapture.Prepare(options, qmp, qemu.Held, progress);
        BandwidthLimit limit = new(options.BandwidthLimit);
        StoppedGuestMark? stoppedByUs = null;
        using ManualResetEventSlim firstPage = new();
        using GuestWatch watch = GuestWatch.Begin(options.MaxDowntime);
        using ScatteredRam scattered = new(Path.Join(directory.Path, ".scattered"), progress, firstPage.Set, watch.Add());
        using BackgroundSnapshotCapability capability = BackgroundSnapshotCapability.Enable(qmp);
        string merging = SamepageMerging.Position;
        time.Mark("prepared");
        MigrationStreamContents contents;
        (long stopped, long resumed) = (0, 0);
        List<QmpEvent> events = [];
        string? moved = null;
        quiesce.Freeze();
        progress.Phase = "Copying"; // the thread that reads QEMU's pages has its own watch
        try
        {
            foreach (QmpEvent e in qmp.TakeEvents())
                facts.Note(e);
            RefusePaused(qmp, facts);
            stoppedByUs = disks.Cut is null ? null : Stop(qmp, facts, events);
            using FileStream stream = Begin(qmp, disks.Cut, time);
            using CancellationTokenRegistration _ = cancel.Register(stream.Dispose);
            contents = Receive(
                stream,
                scattered,
                firstPage,
                qmp,
                () =>
                {
                    // QEMU sends the first page once it has saved its devices: the point in time has passed. If QEMU stopped the guest
                    // itself, it then resumes it.
                    time.Mark("first-page");
                    if (stoppedByUs is not null)
                    {
                        // If a user resumed the guest after our stop, QEMU stops it again: its disks would be older than its memory.
                        events.AddRange(qmp.TakeEvents());
                        moved = events.Find(e => e.Name is "RESUME" or "RESET" or "SUSPEND")?.Name;
                        GiveBack(stoppedByUs, events);
                    }
                    quiesce.Thaw();
                    events.AddRange(qmp.TakeEvents());
                    events.ForEach(facts.Note);
                    if (moved is not null)
                    {
                        throw new CaptureFailedException(
                            Reasons.GuestStateChanged,
                            $"QEMU reported {moved} between the cut of the disks and its snapshot: someone else resumed or reset "
                                + "the guest; try again"
                        );
                    }
                    TestHooks.After("disks-begin");
                    disks.LookAtOthers();
                    facts.Below = disks.Below;
                    facts.Compare(all: false);
                    disks.Begin(directory, limit);
                },
                cancel
            );
        }
        catch (Exception e)
        {
            // What follows may hang with the volume: the guest and its programs do not wait for it, and the parent learns the reason.
            GiveBack(stoppedByUs, events);
            quiesce.Thaw();
            watch.Dispose();
            (progress.Phase, progress.Failing) = ("CleaningUp", e);
            throw;
        }
        watch.Dispose();
        progress.Phase = "Writing";
        time.Mark("unprotected");
        SamepageMerging.CheckSince(merging, qemu.Held);
        (stopped, resumed) = Finish(qmp, events, options.MaxDowntime);

        RamBlockLayout[] layout = [.. contents.Blocks.Select(b => new RamBlockLayout(b.Name, b.UsedLength, 4096))];
        using PageLogWriter log = directory.CreateMemory(layout, options.Compression, id);
        using GranuleIndex index = new(layout);
        using GranuleLedger ledger = new(index.Count);
        long packed = scattered.Pack(options.Compression, layout, index, ledger, log, progress);
        PageLogSummary stored = log.Finish(index, ledger, packed);
        for (; !disks.IsDone && !cancel.IsCancellationRequested; Thread.Sleep(20))
            disks.Watch();
        cancel.ThrowIfCancellationRequested();
        DiskRecords records = disks.Finish();
        time.Mark("disks-copied");
        using (SafeFileHandle file = directory.CreateFile(FormatV1.DeviceStateFileName))
            RandomAccess.Write(file, contents.DeviceState.Bytes.Span, 0);
        log.Dispose();
        time.Mark("written");
        quiesce.Finish();
        CaptureSummary summary = new(
            directory.FinalPath,
            Clock.FromMicroseconds(stopped),
            "qemu",
            reason,
            resumed - stopped,
            time.Microseconds("unprotected") - time.Microseconds("migrate"),
            time.NowMicroseconds,
            0,
            null,
            null,
            null,
            layout.Sum(b => (long)b.UsedLength),
            stored.StoredBytes,
            null,
            time.Entries
        )
        {
            Quiesce = quiesce.Outcome,
            QuiesceDetail = quiesce.Detail,
            Disks = records.Disks,
        };
        directory.Commit(
            ManifestBuilder.Capture(
                id,
                options,
                qemu,
                summary,
                records,
                stored,
                [.. layout.Select(b => new ManifestRamBlock(b.Name, b.UsedLength, b.HostPageSize, "Unknown"))]
            )
        );
        progress.Phase = "Done";
        return summary with { TotalMicroseconds = time.NowMicroseconds };
    }

    /// <summary>
    /// A paused guest has no STOP and RESUME events, which give the agent the point in time, and older QEMUs start it at the end of their
    /// snapshot.
    /// </summary>
    private static void RefusePaused(IQmpMonitor qmp, MachineFacts facts)
    {
        if (facts.IsSuspended || !qmp.IsRunning())
        {
            throw new RefusedException(
                Reasons.GuestNotRunning,
                "the guest is paused: QEMU's own engine captures only a running guest; resume it, or use --engine agent"
            );
        }
    }

    /// <summary>Stops the guest, because its disks are cut before QEMU saves its devices.</summary>
    /// <exception cref="CaptureFailedException">Its user has paused it meanwhile: it stays paused.</exception>
    private static StoppedGuestMark Stop(IQmpMonitor qmp, MachineFacts facts, List<QmpEvent> events)
    {
        StoppedGuestMark mark = StoppedGuestMark.Set(qmp);
        TestHooks.After("armed");
        bool ran = true;
        try
        {
            WindowClock clock = new();
            long sent = clock.Begin();
            qmp.Execute("stop").Dispose();
            TestHooks.After("stop-sent");
            // QEMU sends the event before the answer. An older one is of its user's pause, unless the host's clock was set back.
            foreach (QmpEvent e in qmp.TakeEvents(read: false))
            {
                if (e.Timestamp >= sent || clock.IsSetBack)
                    events.Add(e);
                else
                    facts.Note(e);
            }
            ran = events.Exists(e => e.Name == "STOP");
            return ran
                ? mark
                : throw new CaptureFailedException(
                    Reasons.GuestStateChanged,
                    "somebody else paused the guest before the agent stopped it, and it stays paused; QEMU's own engine captures "
                        + "only a running guest"
                );
        }
        catch
        {
            if (ran)
                mark.ResumeGuest();
            else
                mark.Forget();
            throw;
        }
    }

    /// <summary>
    /// Ends our stop. If somebody else resumed the guest meanwhile, our stop has ended: the guest keeps the state that they gave it.
    /// </summary>
    private static void GiveBack(StoppedGuestMark? mark, List<QmpEvent> sinceStop)
    {
        if (sinceStop.Exists(e => e.Name == "RESUME"))
            mark?.Forget();
        else
            mark?.ResumeGuest();
    }

    private static FileStream Begin(IQmpMonitor qmp, Action<QmpBatch>? cut, Timeline time)
    {
        Pipe pipe = Pipe.Create();
        using SafeFileHandle write = pipe.Write;
        _ = Pipe.TryEnlarge(write);
        try
        {
            qmp.Execute("getfd", QmpJson.Object(("fdname", DescriptorName)), (int)write.DangerousGetHandle()).Dispose();
            time.Mark("migrate");
            string uri = QmpJson.Object(("uri", $"fd:{DescriptorName}"));
            if (cut is null)
                qmp.Execute("migrate", uri).Dispose();
            else
                CutAndMigrate(qmp, cut, uri);
            return new FileStream(pipe.Read, FileAccess.Read, bufferSize: 0);
        }
        catch
        {
            pipe.Read.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Cuts the disks before QEMU saves its devices, in the same stop of the guest. QEMU finds the guest stopped and, from 8.x on, leaves
    /// it stopped.
    /// </summary>
    private static void CutAndMigrate(IQmpMonitor qmp, Action<QmpBatch> cut, string uri)
    {
        QmpBatch batch = new();
        cut(batch);
        batch.Add("migrate", uri);
        batch.Send(qmp);
        for (long end = Environment.TickCount64 + 60_000; !batch.IsDone; Thread.Sleep(1))
        {
            batch.Poll(qmp);
            if (Environment.TickCount64 > end)
                throw new CaptureFailedException(Reasons.StopTimedOut, "QEMU did not begin its background-snapshot within 60 s");
        }
        if (batch.Failure is { } failure)
            throw new CaptureFailedException(Reasons.StopWindowFailed, $"QEMU could not fix the point in time: {failure.Message}", failure);
    }

    /// <summary>Reads the stream on its own thread: QEMU may need a page released before it answers a command.</summary>
    private static MigrationStreamContents Receive(
        FileStream stream,
        ScatteredRam sink,
        ManualResetEventSlim firstPage,
        IQmpMonitor qmp,
        Action afterFirstPage,
        CancellationToken cancel
    )
    {
        Task<MigrationStreamContents> reading = Task.Factory.StartNew(
            () => MigrationStreamParser.Parse(stream, sink, cancel),
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default
        );
        try
        {
            // A cancelled capture does not wait for a volume that hangs: the guest may be stopped for this.
            while (!firstPage.Wait(Slice, CancellationToken.None) && !reading.IsCompleted)
            {
                cancel.ThrowIfCancellationRequested();
                sink.ThrowIfStuck();
            }
            if (!reading.IsFaulted)
                afterFirstPage();
            while (Task.WaitAny([reading], Slice, CancellationToken.None) < 0)
                sink.ThrowIfStuck();
            return reading.GetAwaiter().GetResult();
        }
        catch (Exception e)
        {
            // The guest may wait for QEMU, and QEMU for a reader: a thread that hangs with the volume is not waited for.
            stream.Dispose();
            string why = CancelMigration(qmp);
            cancel.ThrowIfCancellationRequested();
            if (e is LinuxException or CaptureFailedException)
                throw;
            throw new CaptureFailedException(
                Reasons.BackgroundSnapshotFailed,
                $"QEMU's background-snapshot failed: {(why.Length > 0 ? why : e.Message)}",
                e
            );
        }
    }

    /// <summary>Cancels the migration and makes sure that the guest runs.</summary>
    private static string CancelMigration(IQmpMonitor qmp)
    {
        try
        {
            using (QmpAnswer before = qmp.Execute("query-migrate"))
            {
                QmpValue info = before.Return;
                if (info.TryGetProperty("error-desc", out QmpValue error))
                    return error.GetString();
            }
            qmp.Execute("migrate_cancel").Dispose();
            for (int i = 0; i < 500; i++, Thread.Sleep(10))
            {
                using QmpAnswer answer = qmp.Execute("query-migrate");
                if (!answer.Return.TryGetProperty("status", out QmpValue s) || s.GetString() is "cancelled" or "failed" or "completed")
                    break;
            }
            return "";
        }
        catch (QmpException e)
        {
            return e.Message;
        }
    }

    private static (long Stopped, long Resumed) Finish(IQmpMonitor qmp, List<QmpEvent> events, TimeSpan maximum)
    {
        long stopped = 0,
            resumed = 0;
        for (int i = 0; i < 1000; i++, Thread.Sleep(5))
        {
            using QmpAnswer answer = qmp.Execute("query-migrate");
            string status = answer.Return.GetProperty("status").GetString();
            events.AddRange(qmp.TakeEvents());
            foreach (QmpEvent e in events)
            {
                // Use the first of each: if we have already resumed the guest, QEMU may resume it once more and send both events again.
                stopped = e.Name == "STOP" && stopped == 0 ? e.Timestamp : stopped;
                resumed = e.Name == "RESUME" && resumed == 0 ? e.Timestamp : resumed;
            }
            if (status is "failed" or "cancelled")
                throw new CaptureFailedException(Reasons.BackgroundSnapshotFailed, $"QEMU's background-snapshot ended as {status}");
            if (status == "completed" && resumed >= stopped && stopped != 0)
                break;
        }
        if (stopped == 0 || resumed < stopped)
            throw new CaptureFailedException(Reasons.GuestStateChanged, "QEMU did not report STOP and RESUME for its background-snapshot");
        return maximum == TimeSpan.Zero || TimeSpan.FromMicroseconds(resumed - stopped) <= maximum
            ? (stopped, resumed)
            : throw new CaptureFailedException(
                Reasons.DowntimeExceeded,
                $"the stop window took {(resumed - stopped) / 1000.0:0.##} ms, more than --max-downtime "
                    + $"{maximum.TotalMilliseconds:0.##} ms; QEMU's own engine cannot be interrupted in it. No snapshot was kept"
            );
    }
}
