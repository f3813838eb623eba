using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Restores by handing QEMU a migration stream through a pipe; works with every QEMU. The guest runs when QEMU has loaded all of it.
/// </summary>
internal sealed class StreamRestore : IMemoryRestore
{
    private const string DescriptorName = "agent-bgsnap-incoming";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60),
        EndPatience = TimeSpan.FromSeconds(10);

    // With exit-on-error off, QEMU reports why it refused, instead of ending with a message on its standard error.
    private static readonly Version KnowsExitOnError = new(9, 1);

    /// <inheritdoc/>
    public string Method => "stream";

    /// <inheritdoc/>
    public void Run(RestoreTarget target, SnapshotStream snapshot, RestoreProgress progress, Action guestRuns, CancellationToken cancel)
    {
        EmptyRam empty = EmptyRam.Of(target, snapshot.StreamBlocks);
        ulong sent = 0;
        progress.Sends();
        Exception? broken = Send(
            target.Qmp,
            snapshot,
            new MigrationStreamWriterOptions
            {
                IsZeroInTarget = empty.IsZero,
                Progress = p =>
                {
                    progress.Add((long)(p.SentBytes - sent));
                    sent = p.SentBytes;
                },
            },
            cancel
        );
        WaitUntilRunningOrThrow(target, broken);
        guestRuns();
    }

    /// <summary>Waits until the guest runs, or throws the reason why it cannot.</summary>
    internal static void WaitUntilRunningOrThrow(RestoreTarget target, Exception? broken)
    {
        // QEMU's own message comes first, unless our data is damaged.
        if (broken is SnapshotCorruptException or LinuxException or OperationCanceledException)
        {
            WaitUntilGivenUp(target);
            throw broken;
        }
        WaitUntilRunning(target, broken);
    }

    /// <summary>Hands QEMU the stream through a pipe.</summary>
    /// <returns>The exception that broke it off; null: all was sent.</returns>
    internal static Exception? Send(
        IQmpMonitor qmp,
        SnapshotStream snapshot,
        MigrationStreamWriterOptions options,
        CancellationToken cancel
    )
    {
        using Pipe pipe = Pipe.Create();
        _ = Pipe.TryEnlarge(pipe.Write);
        qmp.Execute("getfd", QmpJson.Object(("fdname", DescriptorName)), (int)pipe.Read.DangerousGetHandle()).Dispose();
        // Only QEMU holds the read end now, so the pipe closes when QEMU ends.
        pipe.Read.Dispose();
        string uri = $"fd:{DescriptorName}";
        qmp.Execute(
                "migrate-incoming",
                qmp.QemuVersion >= KnowsExitOnError ? QmpJson.Object(("uri", uri), ("exit-on-error", false)) : QmpJson.Object(("uri", uri))
            )
            .Dispose();
        try
        {
            _ = snapshot.Write(pipe.Write, options, cancel);
            return null;
        }
        catch (Exception e)
            when (e is IOException or LinuxException or MigrationStreamException or SnapshotCorruptException or OperationCanceledException)
        {
            return e;
        }
    }

    private static void WaitUntilRunning(RestoreTarget target, Exception? broken)
    {
        try
        {
            for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; Environment.TickCount64 < end; Thread.Sleep(1))
            {
                // QEMU's main loop may block for long while it reopens disks on slow storage.
                if (RestoreTarget.HasAll(target.RunState(Patience)))
                    return;
                if (target.Incoming() is { Status: "failed" } failed)
                    throw new RestoreFailedException(
                        Reasons.QemuRefusedSnapshot,
                        $"QEMU refused the snapshot: {failed.Error ?? "no reason given"}"
                    );
            }
        }
        catch (QmpException e) when (e.TimedOut)
        {
            throw new RestoreFailedException(Reasons.QemuStuck, $"QEMU has all of the snapshot and does not answer: {e.Message}", e);
        }
        catch (QmpException e)
        {
            throw new RestoreFailedException(
                Reasons.QemuRefusedSnapshot,
                "QEMU ended while it loaded the snapshot; its standard error says why (devices that differ from the captured "
                    + $"machine, mostly): {broken?.Message ?? e.Message}",
                e
            );
        }
        throw new RestoreFailedException(
            Reasons.QemuStuck,
            $"QEMU did not run the guest within {Patience.TotalSeconds:0} s after everything was "
                + $"sent{(broken is null ? "" : $": {broken.Message}")}"
        );
    }

    /// <summary>
    /// A stream that breaks off ends QEMU, or leaves it in a state in which it runs nothing. Waits for that before the failure is reported.
    /// </summary>
    private static void WaitUntilGivenUp(RestoreTarget target)
    {
        try
        {
            for (long end = Environment.TickCount64 + (long)EndPatience.TotalMilliseconds; Environment.TickCount64 < end; Thread.Sleep(5))
            {
                if (target.Incoming().Status == "failed")
                    return;
            }
        }
        catch (QmpException)
        {
            // QEMU has ended.
        }
    }
}
