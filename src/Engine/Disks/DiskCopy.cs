using System.Runtime.ExceptionServices;
using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Qcow2;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Disks;

/// <summary>Copies an NBD export into a qcow2 file: one reading thread per connection; the caller's thread writes.</summary>
internal static unsafe class DiskCopy
{
    /// <summary>Reads the whole export and makes the file durable.</summary>
    /// <param name="connections">Connected to the server, nothing sent or received yet. The caller owns them, and they are not closed here:
    /// the export must be gone before they are. Each reads one chunk at a time; several read in parallel.</param>
    /// <param name="exportName">The export.</param>
    /// <param name="output">An empty file, open for writing.</param>
    /// <param name="display">Its name in errors.</param>
    /// <param name="hooks">What to report and to ask.</param>
    /// <param name="cancel">Ends the copy within a tenth of a second.</param>
    /// <param name="patience">How long the server may take for one answer; default: 30 seconds.</param>
    /// <exception cref="NbdException">The connection was cut, or the server is silent, refuses, fails to read, or breaks the
    /// protocol.</exception>
    /// <exception cref="LinuxException">The file cannot be written; ENOSPC if there is no space, with the file's name.</exception>
    /// <exception cref="OperationCanceledException">The copy was cancelled.</exception>
    public static DiskCopyResult Run(
        IReadOnlyList<UnixSocket> connections,
        string exportName,
        SafeFileHandle output,
        string display,
        DiskCopyHooks hooks,
        CancellationToken cancel,
        TimeSpan? patience = null
    )
    {
        ArgumentOutOfRangeException.ThrowIfZero(connections.Count);
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        NbdClient[] clients = [.. connections.Select(c => NbdClient.Negotiate(c, exportName, stop.Token, patience, hooks.SingleClusters))];
        long size = clients[0].Export.Size;
        if (clients.Any(c => c.Export.Size != size) || size > Qcow2Format.MaxVirtualSize)
            throw new NbdException($"NBD export {exportName}: a disk of {size} bytes is too large, or changes its size", Errno.EINVAL);
        hooks.Total?.Invoke(ReadPlan.Total(clients[0], hooks.Holes));

        using Qcow2Writer writer = new(output, display, (size + Qcow2Format.SectorSize - 1) & ~(Qcow2Format.SectorSize - 1L));
        Copy(clients, writer, hooks, stop, cancel);
        hooks.Read?.Invoke();
        long stored = writer.Finish();
        FileSyscalls.Sync(output, display);
        return new DiskCopyResult(writer.VirtualSize, writer.DataBytes, stored, Checksum(output, stored, display, cancel));
    }

    private static void Copy(
        NbdClient[] clients,
        Qcow2Writer writer,
        DiskCopyHooks hooks,
        CancellationTokenSource stop,
        CancellationToken cancel
    )
    {
        using ChunkRing ring = new();
        ReadPlan plan = new(clients[0].Export.Size, hooks.Holes);
        ExceptionDispatchInfo? failure = null;
        int running = clients.Length;
        Thread[] readers = [.. clients.Select(client => AgentThread.Start("disk read", () => Read(client), Failed, stackBytes: 0))];
        try
        {
            for (int n; (n = ring.Next(stop.Token, out long offset, out int length)) >= 0; ring.Release())
            {
                writer.Write(offset, ring.Memory(n), Padded(ring.Memory(n), offset, length, plan.Size));
                hooks.Copied?.Invoke(length);
            }
        }
        catch (OperationCanceledException) when (failure is not null)
        {
            // The reader's failure, thrown below, is the reason.
        }
        finally
        {
            stop.Cancel();
            foreach (Thread reader in readers)
                reader.Join();
        }
        failure?.Throw();
        cancel.ThrowIfCancellationRequested();

        void Read(NbdClient client)
        {
            try
            {
                for (int n; (n = ring.Take(plan, client, hooks.Trim, stop.Token, out long offset, out int length)) >= 0; ring.Filled(n))
                {
                    client.Read(offset, length, ring.Memory(n));
                    // From here on the guest may overwrite it without QEMU saving a copy. It is never read again.
                    long whole = length & ~(Qcow2Format.ClusterSize - 1L);
                    if (hooks.Trim && whole > 0)
                        client.Trim(offset, (uint)whole);
                }
            }
            catch (Exception e) when (e is not OperationCanceledException || !stop.IsCancellationRequested)
            {
                Failed(e);
            }
            catch (OperationCanceledException)
            {
                // Another thread failed, or the copy was cancelled.
            }
            finally
            {
                if (Interlocked.Decrement(ref running) == 0)
                    ring.End();
            }
        }

        void Failed(Exception e)
        {
            _ = Interlocked.CompareExchange(ref failure, ExceptionDispatchInfo.Capture(e), null);
            stop.Cancel();
        }
    }

    // A qcow2 disk has whole sectors; an export may have any length.
    private static int Padded(byte* data, long offset, int length, long size)
    {
        int padding = offset + length == size ? (int)(-size & (Qcow2Format.SectorSize - 1)) : 0;
        // SAFETY: buffers have room for whole chunks, which are whole sectors.
        new Span<byte>(data + length, padding).Clear();
        return length + padding;
    }

    /// <summary>
    /// Hashes the file in a second pass. Hashing while writing would need every byte in file order. But the header at the file's beginning,
    /// through the L1 table it points to, depends on how much was stored before the tables, and that is known only when the whole disk has
    /// been searched for zeros. What was just written is mostly still in the page cache, and the guest is already free.
    /// </summary>
    private static string Checksum(SafeFileHandle output, long size, string display, CancellationToken cancel)
    {
        // The handle may be write-only.
        using SafeFileHandle readable = FileSyscalls.OpenAt(
            null,
            $"/proc/self/fd/{output.DangerousGetHandle()}",
            FileSyscalls.O_RDONLY,
            0,
            display
        );
        return SnapshotFiles.Checksum(readable, size, display, _ => cancel.ThrowIfCancellationRequested());
    }
}
