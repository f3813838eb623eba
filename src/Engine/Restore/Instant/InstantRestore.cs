using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// Starts the guest first, and loads its memory both on demand and in the background.
/// </summary>
/// <remarks>
/// <code>
///   agent                                              QEMU, -incoming defer
///   one hold (ptrace): userfaultfd ◀──────────────────  made there, kept there too
///                      RAM emptied
///   register every stretch with data
///   serve faults
///   a stream without RAM (pipe, getfd, migrate-incoming) ─▶ loads devices, touches some pages
///                                                      RESUME
///   fault ─▶ 64 KiB from the page log ─▶ UFFDIO_COPY    guest runs
///   the rest, behind the faults
///   unregister, second hold: its copy is closed
/// </code>
/// docs/design/0014 has the reasons.
/// </remarks>
internal sealed class InstantRestore(RestoreOptions options) : IMemoryRestore
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60),
        Glance = TimeSpan.FromMilliseconds(500);

    /// <inheritdoc/>
    public string Method => "instant";

    /// <inheritdoc/>
    public void Check(RestoreTarget target, SnapshotStream snapshot) => _ = LazyMemory.Choose(target, snapshot.Blocks);

    /// <inheritdoc/>
    /// <exception cref="EngineUnavailableException">The method is not possible here; QEMU still waits.</exception>
    public void Run(RestoreTarget target, SnapshotStream snapshot, RestoreProgress progress, Action guestRuns, CancellationToken cancel)
    {
        IReadOnlyList<RamBlock> blocks = LazyMemory.Choose(target, snapshot.Blocks);
        // Read before the memory is registered: afterwards such a read would wait for ourselves.
        EmptyRam empty = EmptyRam.Of(target, snapshot.StreamBlocks);
        using LazyMemory memory = LazyMemory.Take(target.Qmp, target.Process.Held, blocks, snapshot.Log);
        using InstantFollowUp follow = new(memory, snapshot, progress, options);
        follow.Serve();
        progress.Sends();
        Load(target, snapshot, memory, follow, empty, cancel);
        follow.GuestRuns();
        guestRuns();
        follow.UntilResident(cancel);
        if (options.HugePages)
            follow.MakeHugePages(cancel);
    }

    /// <summary>Makes QEMU load everything but the large RAM blocks, and waits until the guest runs.</summary>
    internal static void Load(
        RestoreTarget target,
        SnapshotStream snapshot,
        LazyMemory memory,
        InstantFollowUp follow,
        EmptyRam? empty,
        CancellationToken cancel
    )
    {
        HashSet<int> lazy = [.. memory.Ram.Blocks.Select(b => b.LogIndex)];
        Exception? broken = StreamRestore.Send(
            target.Qmp,
            snapshot,
            new MigrationStreamWriterOptions
            {
                SendPagesOf = i => !lazy.Contains(i),
                IsZeroInTarget = empty is null ? null : empty.IsZero,
                ReaderThreads = 1,
            },
            cancel
        );
        TestHooks.After("sent");
        if (broken is OperationCanceledException or SnapshotCorruptException)
            throw broken;
        WaitUntilRunning(target, follow, broken);
    }

    /// <summary>Waits until QEMU, which has received the whole stream, runs the guest.</summary>
    /// <exception cref="RestoreFailedException">QEMU refused the stream, or cannot get a page that it needs to run the guest.</exception>
    internal static void WaitUntilRunning(RestoreTarget target, InstantFollowUp follow, Exception? broken)
    {
        for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; Environment.TickCount64 < end; Thread.Sleep(1))
        {
            try
            {
                follow.ThrowIfStuck();
                if (RestoreTarget.HasAll(target.RunState(Glance)))
                    return;
                if (target.Incoming() is { Status: "failed" } failed)
                    throw new RestoreFailedException(
                        Reasons.QemuRefusedSnapshot,
                        $"QEMU refused the snapshot: {failed.Error ?? "no reason given"}"
                    );
            }
            catch (QmpException e) when (e.TimedOut)
            {
                // QEMU may be waiting for a page; the check above throws if that page cannot come.
            }
            catch (Exception e) when (e is QmpException or RestoreFailedException { Reason: Reasons.QemuGone })
            {
                // Either its monitor or its process's descriptor shows first that QEMU has ended.
                throw new RestoreFailedException(
                    Reasons.QemuRefusedSnapshot,
                    "QEMU ended while it loaded the snapshot; its standard error says why (devices that differ from the captured "
                        + $"machine, mostly): {broken?.Message ?? e.Message}",
                    e
                );
            }
        }
        throw new RestoreFailedException(
            Reasons.QemuStuck,
            $"QEMU did not run the guest within {Patience.TotalSeconds:0} s after everything was "
                + $"sent{(broken is null ? "" : $": {broken.Message}")}"
        );
    }
}
