using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Streams;
using Bgsnap.NodeAgent.Vm;

namespace Bgsnap.NodeAgent.Restore.Instant;

/// <summary>
/// Lets the guest run first and brings in its memory when it is touched, and meanwhile.
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
    /// <exception cref="EngineUnavailableException">It is not possible here; QEMU waits as before.</exception>
    public void Run(RestoreTarget target, SnapshotStream snapshot, RestoreProgress progress, Action guestRuns, CancellationToken cancel)
    {
        IReadOnlyList<RamBlock> blocks = LazyMemory.Choose(target, snapshot.Blocks);
        // Looked at before the memory is ours to give: afterwards a look would wait for us.
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

    /// <summary>Has QEMU load what is not large RAM, and waits until the guest runs.</summary>
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
        if (broken is OperationCanceledException or Store.SnapshotCorruptException)
            throw broken;
        WaitUntilRunning(target, follow, broken);
    }

    /// <summary>Waits until QEMU, which has all of the stream, runs the guest.</summary>
    /// <exception cref="RestoreFailedException">It refused, or cannot get a page that it needs for that.</exception>
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
                        "QemuRefusedSnapshot",
                        $"QEMU refused the snapshot: {failed.Error ?? "no reason given"}"
                    );
            }
            catch (QmpException e) when (e.TimedOut)
            {
                // It waits for a page, perhaps; whether that comes is known above.
            }
            catch (Exception e) when (e is QmpException or RestoreFailedException { Reason: "QemuGone" })
            {
                // Its end is seen first by its monitor or by its process's descriptor.
                throw new RestoreFailedException(
                    "QemuRefusedSnapshot",
                    "QEMU ended while it loaded the snapshot; its standard error says why (devices that differ from the captured "
                        + $"machine, mostly): {broken?.Message ?? e.Message}",
                    e
                );
            }
        }
        throw new RestoreFailedException(
            "QemuStuck",
            $"QEMU did not run the guest within {Patience.TotalSeconds:0} s after all was "
                + $"sent{(broken is null ? "" : $": {broken.Message}")}"
        );
    }
}
