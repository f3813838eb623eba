using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Bgsnap.Qemu.Vm;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>Reads guest RAM from outside: with process_vm_readv(2), or, if the memory is a shared file, through that file.</summary>
/// <remarks>Reading through the file needs none of QEMU's page tables and never populates a missing page.</remarks>
internal sealed unsafe class RamReader : IDisposable
{
    private readonly CheckedProcess _process;
    private readonly SafeFileHandle?[] _files;

    internal RamReader(GuestRam ram, CheckedProcess process)
    {
        _process = process;
        _files = new SafeFileHandle?[ram.Blocks.Count];
        foreach (GuestRam.Block b in ram.Blocks)
        {
            if (b.Ram.IsReadThroughFile)
                _files[b.Index] = b.Ram.OpenFile(process);
        }
    }

    /// <summary>Reads a range of a block: exactly that many bytes, or it throws.</summary>
    internal void Read(GuestRam.Block block, ulong address, byte* destination, int length)
    {
        if (_files[block.Index] is not { } file)
        {
            ProcessMemory.Read(_process, address, destination, length);
            return;
        }
        long offset = (long)(block.Ram.FileOffset + (address - block.Start));
        for (int done = 0; done < length; )
        {
            nint got = Libc.PRead(file, destination + done, (nuint)(length - done), offset + done);
            if (got > 0)
                done += (int)got;
            else if (got == 0)
                throw new LinuxException($"read the memory file of RAM block {block.Ram.Name}: it ends at {offset + done}", Errno.EIO);
            else if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                throw LinuxException.Last($"read the memory file of RAM block {block.Ram.Name}");
        }
    }

    /// <summary>
    /// Visits the ranges of a shared block's file that hold data (lseek(2), SEEK_DATA and SEEK_HOLE), as addresses in QEMU.
    /// </summary>
    internal void VisitData(GuestRam.Block block, ulong start, ulong end, Action<ulong, ulong> visit)
    {
        long shift = (long)block.Start - (long)block.Ram.FileOffset;
        SparseFile.VisitData(_files[block.Index]!, (long)start - shift, (long)end - shift, (from, to) =>
            visit((ulong)(from + shift), (ulong)(to + shift))
        );
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (SafeFileHandle? f in _files)
            f?.Dispose();
    }
}
