using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>The libc calls that several files share; groups of related calls have their own files.</summary>
internal static unsafe partial class Libc
{
    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    internal static partial int Ioctl(int fd, ulong request, void* argument);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    internal static partial int Ioctl(SafeHandle fd, ulong request, void* argument);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    internal static partial nint Read(SafeHandle fd, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    internal static partial nint Read(int fd, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    internal static partial nint PRead(SafeHandle fd, void* buffer, nuint count, long offset);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    internal static partial nint Write(SafeHandle fd, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    internal static partial long LSeek(int fd, long offset, int whence);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Open(string path, int flags, int mode);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    internal static partial int Close(int fd);

    // fcntl is variadic; on x86-64 an integer goes into the same register either way (al is only read for floats).
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    internal static partial int Fcntl(SafeHandle fd, int command, long argument);

    [LibraryImport("libc", EntryPoint = "pipe2", SetLastError = true)]
    internal static partial int Pipe2(int* fds, int flags);

    [LibraryImport("libc", EntryPoint = "fchmod", SetLastError = true)]
    internal static partial int FChMod(int fd, uint mode);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    internal static partial int Poll(PollFd* fds, ulong count, int timeoutMilliseconds);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    internal static partial void* MMap(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    internal static partial int MUnmap(void* address, nuint length);

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    internal static partial int MAdvise(void* address, nuint length, int advice);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    internal static partial long Syscall(long number, long a, long b, long c, long d, long e, long f);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    internal static partial int Kill(int pid, int signal);

    internal const int O_RDONLY = 0,
        O_WRONLY = 1,
        O_RDWR = 2,
        O_CLOEXEC = 0x80000,
        O_NONBLOCK = 0x800;
    internal const int PROT_READ = 1,
        PROT_WRITE = 2;
    internal const int MAP_PRIVATE = 2,
        MAP_ANONYMOUS = 0x20,
        MAP_NORESERVE = 0x4000;
    internal const int MADV_HUGEPAGE = 14,
        MADV_POPULATE_WRITE = 23;
    internal const int SEEK_DATA = 3,
        SEEK_HOLE = 4;
    internal const int F_GETFL = 3,
        F_SETFL = 4,
        F_SETPIPE_SZ = 1031;
    internal const short POLLIN = 1,
        POLLOUT = 4,
        POLLERR = 8,
        POLLHUP = 16;
    internal static readonly void* MAP_FAILED = (void*)-1;
}

/// <summary>struct pollfd of poll(2).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct PollFd
{
    /// <summary>fd.</summary>
    public int Fd;

    /// <summary>events asked for.</summary>
    public short Events;

    /// <summary>events that happened.</summary>
    public short Revents;
}
