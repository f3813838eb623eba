using System.Runtime.InteropServices;

namespace Bgsnap.NodeAgent.Linux;

/// <summary>Reading and writing another process's memory: process_vm_readv(2), process_vm_writev(2).</summary>
internal static unsafe partial class ProcessMemory
{
    [StructLayout(LayoutKind.Sequential)]
    private struct IoVec
    {
        internal void* Base;
        internal nuint Length;
    }

    [LibraryImport("libc", EntryPoint = "process_vm_readv", SetLastError = true)]
    private static partial nint ReadV(int pid, IoVec* local, nuint localCount, IoVec* remote, nuint remoteCount, nuint flags);

    [LibraryImport("libc", EntryPoint = "process_vm_writev", SetLastError = true)]
    private static partial nint WriteV(int pid, IoVec* local, nuint localCount, IoVec* remote, nuint remoteCount, nuint flags);

    /// <summary>Reads exactly <paramref name="length"/> bytes.</summary>
    /// <exception cref="LinuxException">EFAULT: not mapped; ESRCH: the process is gone; EPERM: denied.</exception>
    internal static void Read(int pid, ulong address, byte* destination, int length)
    {
        int done = 0;
        while (done < length)
        {
            IoVec local = new() { Base = destination + done, Length = (nuint)(length - done) };
            IoVec remote = new() { Base = (void*)(address + (ulong)done), Length = (nuint)(length - done) };
            nint got = ReadV(pid, &local, 1, &remote, 1, 0);
            if (got <= 0)
                throw LinuxException.Last($"read memory of process {pid} at {address + (ulong)done:x}");
            done += (int)got;
        }
    }

    /// <summary>Reads as much as there is, for looking around.</summary>
    /// <returns>Bytes read, 0 when the address cannot be read.</returns>
    internal static int TryRead(int pid, ulong address, Span<byte> destination)
    {
        fixed (byte* d = destination)
        {
            IoVec local = new() { Base = d, Length = (nuint)destination.Length };
            IoVec remote = new() { Base = (void*)address, Length = (nuint)destination.Length };
            nint got = ReadV(pid, &local, 1, &remote, 1, 0);
            return got < 0 ? 0 : (int)got;
        }
    }

    /// <summary>Writes exactly <paramref name="length"/> bytes.</summary>
    /// <exception cref="LinuxException">EFAULT: not mapped or not writable; ESRCH: the process is gone.</exception>
    internal static void Write(int pid, ulong address, byte* source, int length)
    {
        IoVec local = new() { Base = source, Length = (nuint)length };
        IoVec remote = new() { Base = (void*)address, Length = (nuint)length };
        nint put = WriteV(pid, &local, 1, &remote, 1, 0);
        if (put < 0)
            throw LinuxException.Last($"write memory of process {pid} at {address:x}");
        if (put != length)
            throw new LinuxException($"write memory of process {pid} at {address:x}", Errno.EFAULT);
    }
}
