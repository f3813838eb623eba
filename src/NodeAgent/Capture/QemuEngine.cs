using System.Text.Json;
using Bgsnap.NodeAgent.GuestAgent;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;
using Bgsnap.NodeAgent.Streams;
using Bgsnap.NodeAgent.Vm;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// The qemu engine: the workflow of the KVM Forum 2018 talk. QEMU stops itself, saves its devices, protects its memory and sends it page by
/// page; we read the stream and write the same files as the other engine.
/// </summary>
/// <remarks>
/// Pages that the guest wanted come first, so a granule's pages arrive scattered: they are put into place in a sparse, unnamed
/// file, and packed when the guest has long been free again. If we die, QEMU's migration fails and the guest runs on.
/// </remarks>
internal static class QemuEngine
{
    private const string DescriptorName = "agent-bgsnap-outgoing";

    internal static CaptureSummary Run(CaptureOptions options, string reason, QmpClient qmp, QemuProcess qemu, Quiesce quiesce, CaptureProgress progress, Timeline time, CancellationToken cancel)
    {
        RefusePaused(qmp);
        Guid id = Guid.NewGuid();
        using SnapshotDirectoryWriter directory = SnapshotDirectoryWriter.Begin(options.Output);
        using ScatteredRam scattered = new(Path.Join(directory.Path, ".scattered"), progress, () =>
        {
            // QEMU sends the first page when it has its devices and lets the guest run.
            time.Mark("first-page");
            quiesce.Thaw();
        });
        using BackgroundSnapshotCapability capability = BackgroundSnapshotCapability.Enable(qmp);
        time.Mark("prepared");
        MigrationStreamContents contents;
        (long stopped, long resumed) = (0, 0);
        quiesce.Freeze();
        progress.Phase = "Writing"; // no thread of ours holds the guest: nothing to watch over but the process
        using (FileStream stream = Begin(qmp, time))
        {
            using CancellationTokenRegistration _ = cancel.Register(stream.Dispose);
            contents = Receive(stream, scattered, qmp, cancel);
        }
        time.Mark("unprotected");
        (stopped, resumed) = Finish(qmp, options.MaxDowntime);

        RamBlockLayout[] layout = [.. contents.Blocks.Select(b => new RamBlockLayout(b.Name, b.UsedLength, 4096))];
        using PageLogWriter log = directory.CreateMemory(layout, options.Compression, id);
        using GranuleIndex index = new(layout);
        scattered.Pack(options.Compression, layout, index, log, progress);
        PageLogSummary stored = log.Finish(index);
        using (SafeFileHandle file = directory.CreateFile(SnapshotFormat.DeviceStateFileName))
            RandomAccess.Write(file, contents.DeviceState.Bytes.Span, 0);
        log.Dispose();
        time.Mark("written");
        quiesce.Finish();
        CaptureSummary summary = new(directory.FinalPath, Clock.FromMicroseconds(stopped), "qemu", reason, resumed - stopped,
            time.Microseconds("unprotected") - time.Microseconds("migrate"), time.NowMicroseconds, 0, null, null, null,
            layout.Sum(b => (long)b.UsedLength), stored.StoredBytes, null, time.Entries)
        { Quiesce = quiesce.Outcome, QuiesceDetail = quiesce.Detail };
        directory.Commit(ManifestOf.Capture(id, options, qemu, summary, stored, [.. layout.Select(b => new ManifestRamBlock(b.Name, b.UsedLength, b.HostPageSize, "Unknown"))]));
        progress.Phase = "Done";
        return summary with { TotalMicroseconds = time.NowMicroseconds };
    }

    /// <summary>A paused guest gets no STOP and RESUME, by which we know the point in time, and older QEMUs start it at the end of their snapshot.</summary>
    private static void RefusePaused(QmpClient qmp)
    {
        using JsonDocument answer = qmp.Execute("query-status");
        if (!answer.RootElement.GetProperty("return").GetProperty("running").GetBoolean())
            throw new CaptureRefusedException("GuestNotRunning", "the guest is paused: QEMU's own engine captures only a running guest; resume it, or use --engine agent");
    }

    private static FileStream Begin(QmpClient qmp, Timeline time)
    {
        Pipe pipe = Pipe.Create();
        using SafeFileHandle write = pipe.Write;
        _ = Pipe.TryEnlarge(write);
        try
        {
            qmp.Execute("getfd", QmpJson.Object(("fdname", DescriptorName)), (int)write.DangerousGetHandle()).Dispose();
            _ = qmp.TakeEvents();
            time.Mark("migrate");
            qmp.Execute("migrate", QmpJson.Object(("uri", $"fd:{DescriptorName}"))).Dispose();
            return new FileStream(pipe.Read, FileAccess.Read, bufferSize: 0);
        }
        catch
        {
            pipe.Read.Dispose();
            throw;
        }
    }

    private static MigrationStreamContents Receive(FileStream stream, ScatteredRam sink, QmpClient qmp, CancellationToken cancel)
    {
        try
        {
            return MigrationStreamParser.Parse(stream, sink, cancel);
        }
        catch (Exception e)
        {
            string why = CancelMigration(qmp);
            cancel.ThrowIfCancellationRequested();
            if (e is LinuxException or CaptureFailedException)
                throw;
            throw new CaptureFailedException("BackgroundSnapshotFailed", $"QEMU's background-snapshot failed: {(why.Length > 0 ? why : e.Message)}; the guest runs on", e);
        }
    }

    /// <summary>Ends what is under way and sees that the guest runs.</summary>
    private static string CancelMigration(QmpClient qmp)
    {
        try
        {
            using (JsonDocument before = qmp.Execute("query-migrate"))
            {
                JsonElement info = before.RootElement.GetProperty("return");
                if (info.TryGetProperty("error-desc", out JsonElement error))
                    return error.GetString() ?? "";
            }
            qmp.Execute("migrate_cancel").Dispose();
            for (int i = 0; i < 500; i++, Thread.Sleep(10))
            {
                using JsonDocument answer = qmp.Execute("query-migrate");
                if (!answer.RootElement.GetProperty("return").TryGetProperty("status", out JsonElement s) || s.GetString() is "cancelled" or "failed" or "completed")
                    break;
            }
            return "";
        }
        catch (QmpException e)
        {
            return e.Message;
        }
    }

    private static (long Stopped, long Resumed) Finish(QmpClient qmp, TimeSpan maximum)
    {
        long stopped = 0, resumed = 0;
        for (int i = 0; i < 1000; i++, Thread.Sleep(5))
        {
            using JsonDocument answer = qmp.Execute("query-migrate");
            string status = answer.RootElement.GetProperty("return").GetProperty("status").GetString() ?? "";
            foreach (QmpEvent e in qmp.TakeEvents())
            {
                stopped = e.Name == "STOP" ? e.Timestamp : stopped;
                resumed = e.Name == "RESUME" ? e.Timestamp : resumed;
            }
            if (status is "failed" or "cancelled")
                throw new CaptureFailedException("BackgroundSnapshotFailed", $"QEMU's background-snapshot ended as {status}");
            if (status == "completed" && resumed >= stopped && stopped != 0)
                break;
        }
        if (stopped == 0 || resumed < stopped)
            throw new CaptureFailedException("GuestStateChanged", "QEMU did not report STOP and RESUME for its background-snapshot");
        return maximum == TimeSpan.Zero || TimeSpan.FromMicroseconds(resumed - stopped) <= maximum
            ? (stopped, resumed)
            : throw new CaptureFailedException("DowntimeExceeded", $"the stop window took {(resumed - stopped) / 1000.0:0.##} ms, more than --max-downtime {maximum.TotalMilliseconds:0.##} ms; QEMU's own engine cannot be interrupted in it. No snapshot was kept");
    }
}
