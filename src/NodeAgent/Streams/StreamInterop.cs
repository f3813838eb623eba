using System.Runtime.InteropServices;

namespace Bgsnap.NodeAgent.Streams;

/// <summary>The few calls of libc that writing to a descriptor of any kind takes; x86-64 Linux numbers.</summary>
internal static unsafe partial class StreamInterop
{
    public const int EINTR = 4;
    public const int EAGAIN = 11;
    public const int EFBIG = 27;
    public const int ENOSPC = 28;
    public const int EPIPE = 32;
    public const int ECONNRESET = 104;
    public const int EDQUOT = 122;

    public const int F_GETFL = 3;
    public const int F_SETFL = 4;
    public const int F_SETPIPE_SZ = 1031;
    public const int O_NONBLOCK = 0x800;
    public const short POLLOUT = 4;

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    public static partial nint Write(SafeHandle fd, byte* data, nint length);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    public static partial int Poll(PollFd* fds, nuint count, int timeoutMilliseconds);

    // fcntl is variadic; on x86-64 an int goes into the same register either way (al is only read for floats).
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    public static partial int Fcntl(SafeHandle fd, int command, nint argument);

    /// <summary>struct pollfd of poll(2).</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct PollFd
    {
        public int Fd;
        public short Events;
        public short Revents;
    }
}
