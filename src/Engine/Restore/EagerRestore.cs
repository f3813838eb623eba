using System.Runtime.InteropServices;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Writes RAM into a waiting QEMU with several threads, in pieces of 2 MiB, which become huge pages where QEMU's memory may have them. Then
/// QEMU loads its devices. The guest runs when everything is loaded.
/// </summary>
/// <remarks>
/// QEMU's own loader is one thread and works page by page. This method needs the right to write QEMU's memory (/proc/PID/mem), but no
/// userfaultfd.
/// </remarks>
internal sealed class EagerRestore : IMemoryRestore
{
    private const ulong SmallestBlock = 16 << 20;
    private const int GranulesPerPiece = 32,
        PieceBytes = GranulesPerPiece * FormatV1.GranuleSize;

    /// <inheritdoc/>
    public string Method => "eager";

    /// <inheritdoc/>
    /// <exception cref="EngineUnavailableException">The agent cannot write QEMU's memory; QEMU still waits.</exception>
    public void Run(RestoreTarget target, SnapshotStream snapshot, RestoreProgress progress, Action guestRuns, CancellationToken cancel)
    {
        using ForeignMemory memory = OpenMemory(target);
        Dictionary<int, RamBlock> large = Choose(target, snapshot);
        EmptyRam empty = EmptyRam.Of(target, snapshot.StreamBlocks);
        Write(memory, snapshot.Log, large, empty, progress, cancel);
        ulong sent = 0;
        progress.Sends();
        Exception? broken = StreamRestore.Send(
            target.Qmp,
            snapshot,
            new MigrationStreamWriterOptions
            {
                SendPagesOf = i => !large.ContainsKey(i),
                IsZeroInTarget = empty.IsZero,
                ReaderThreads = 1,
                Progress = p =>
                {
                    progress.Add((long)(p.SentBytes - sent));
                    sent = p.SentBytes;
                },
            },
            cancel
        );
        StreamRestore.WaitUntilRunningOrThrow(target, broken);
        guestRuns();
    }

    private static ForeignMemory OpenMemory(RestoreTarget target)
    {
        try
        {
            ForeignMemory memory = target.Process.Held.OpenMemory();
            if (memory.CanRead(MemoryMapping.Read(target.Process.Held)[0].Start))
                return memory;
            memory.Dispose();
            throw new EngineUnavailableException(
                $"the memory of QEMU (process {target.Process.Pid}) cannot be written: run as root, or with CAP_SYS_PTRACE"
            );
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new EngineUnavailableException(
                $"the memory of QEMU cannot be written: {e.Message} (run as root, or with CAP_SYS_PTRACE)"
            );
        }
    }

    private static Dictionary<int, RamBlock> Choose(RestoreTarget target, SnapshotStream snapshot)
    {
        try
        {
            Dictionary<string, RamBlock> there = target.RamBlocks().ToDictionary(b => b.Name);
            Dictionary<int, RamBlock> large = [];
            for (int i = 0; i < snapshot.Blocks.Count; i++)
            {
                RamBlockLayout layout = snapshot.Blocks[i];
                if (
                    layout.UsedLength >= SmallestBlock
                    && there.TryGetValue(layout.Name, out RamBlock? block)
                    && block.UsedLength == layout.UsedLength
                )
                    large.Add(i, block);
            }
            return large;
        }
        catch (Exception e) when (e is RefusedException or IOException or UnauthorizedAccessException)
        {
            throw new EngineUnavailableException(e.Message);
        }
    }

    private static void Write(
        ForeignMemory memory,
        PageLogReader log,
        Dictionary<int, RamBlock> blocks,
        EmptyRam empty,
        RestoreProgress progress,
        CancellationToken cancel
    )
    {
        foreach ((int index, RamBlock block) in blocks)
        {
            long pieces = (log.GranuleCount(index) + GranulesPerPiece - 1) / GranulesPerPiece,
                next = -1;
            Exception? failure = null;
            Threads threads = new();
            for (int i = 0; i < Math.Clamp(Environment.ProcessorCount, 1, 8); i++)
            {
                threads.Add(
                    AgentThread.Start(
                        "eager",
                        () =>
                        {
                            using Piece piece = new(memory, log, index, block, empty);
                            for (
                                long p;
                                Volatile.Read(ref failure) is null
                                    && !cancel.IsCancellationRequested
                                    && (p = Interlocked.Increment(ref next)) < pieces;

                            )
                                progress.Add(piece.Write(p * GranulesPerPiece));
                        },
                        failed: e => _ = Interlocked.CompareExchange(ref failure, e, null)
                    )
                );
            }
            threads.Join();
            cancel.ThrowIfCancellationRequested();
            if (failure is not null)
                throw failure;
        }
    }

    /// <summary>A thread's buffer of 2 MiB.</summary>
    private sealed unsafe class Piece(ForeignMemory memory, PageLogReader log, int index, RamBlock block, EmptyRam empty) : IDisposable
    {
        private readonly byte* _bytes = (byte*)NativeMemory.AlignedAlloc(PieceBytes, 4096);
        private readonly GranuleDecoder _decoder = new();

        /// <summary>Writes up to 32 granules, in runs; skips what is zero on both sides.</summary>
        /// <returns>Bytes done.</returns>
        internal long Write(long first)
        {
            long end = Math.Min(first + GranulesPerPiece, log.GranuleCount(index));
            int run = 0;
            long done = 0;
            for (long g = first; g < end; g++)
            {
                int length = log.GranuleLength(index, g);
                bool data = log.PageBitmap(index, g) != 0;
                if (!data && empty.IsZero(index, g))
                {
                    Flush(g, ref run);
                }
                else
                {
                    // For a granule without data this writes zeroes.
                    log.ReadGranule(index, g, _bytes + run, _decoder);
                    run += length;
                }
                done += length;
            }
            Flush(end, ref run);
            return done;
        }

        private void Flush(long behind, ref int run)
        {
            if (run > 0)
            {
                ulong end = Math.Min((ulong)behind * FormatV1.GranuleSize, block.UsedLength);
                memory.Write(block.HostAddress + end - (ulong)run, _bytes, run);
            }
            run = 0;
        }

        public void Dispose()
        {
            NativeMemory.AlignedFree(_bytes);
            _decoder.Dispose();
        }
    }
}
