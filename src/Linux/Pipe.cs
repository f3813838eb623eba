using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>A pipe whose one end is passed to QEMU: pipe(7).</summary>
internal sealed unsafe class Pipe : IDisposable
{
    private const int LargeBytes = 1 << 20;

    private Pipe(SafeFileHandle read, SafeFileHandle write) => (Read, Write) = (read, write);

    /// <summary>The read end.</summary>
    internal SafeFileHandle Read { get; }

    /// <summary>The write end.</summary>
    internal SafeFileHandle Write { get; }

    /// <summary>Creates a pipe of the kernel's default size, closed on exec.</summary>
    internal static Pipe Create()
    {
        int* fds = stackalloc int[2];
        return Libc.Pipe2(fds, Libc.O_CLOEXEC) == 0
            ? new Pipe(new SafeFileHandle(fds[0], true), new SafeFileHandle(fds[1], true))
            : throw LinuxException.Last("pipe");
    }

    /// <summary>Enlarges a pipe from 64 KiB to a megabyte: fewer switches between writer and reader.</summary>
    /// <returns>False if that is not allowed, or if it is not a pipe. It works as it is.</returns>
    internal static bool TryEnlarge(SafeFileHandle end) => Libc.Fcntl(end, Libc.F_SETPIPE_SZ, LargeBytes) >= 0;

    /// <summary>Shrinks a pipe to one page.</summary>
    internal static void Shrink(SafeFileHandle end)
    {
        if (Libc.Fcntl(end, Libc.F_SETPIPE_SZ, Environment.SystemPageSize) < 0)
            throw LinuxException.Last("F_SETPIPE_SZ");
    }

    /// <summary>Closes the ends that are still open.</summary>
    public void Dispose()
    {
        Read.Dispose();
        Write.Dispose();
    }
}
