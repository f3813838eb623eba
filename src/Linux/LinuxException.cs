using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>A failed system call, with the operation and the kernel's reason.</summary>
public sealed class LinuxException : IOException
{
    /// <summary>Creates the exception for a call that returned <paramref name="errno"/>.</summary>
    /// <param name="what">The operation, naming the object, for example <c>open /a/b</c>.</param>
    /// <param name="errno">The positive error number of errno(3).</param>
    public LinuxException(string what, int errno)
        : base($"{what}: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})") => Errno = errno;

    /// <summary>The positive error number of errno(3).</summary>
    public int Errno { get; }

    /// <summary>The exception for the P/Invoke that has just failed on this thread.</summary>
    /// <param name="what">The operation, naming the object.</param>
    public static LinuxException Last(string what) => new(what, Marshal.GetLastPInvokeError());
}

/// <summary>Error numbers this project tells apart; errno(3), x86-64.</summary>
public static class Errno
{
    /// <summary>Operation not permitted.</summary>
    public const int EPERM = 1;

    /// <summary>No such file or directory.</summary>
    public const int ENOENT = 2;

    /// <summary>No such process.</summary>
    public const int ESRCH = 3;

    /// <summary>Interrupted system call.</summary>
    public const int EINTR = 4;

    /// <summary>Input/output error.</summary>
    public const int EIO = 5;

    /// <summary>No such descriptor.</summary>
    public const int EBADF = 9;

    /// <summary>Resource temporarily unavailable.</summary>
    public const int EAGAIN = 11;

    /// <summary>Permission denied.</summary>
    public const int EACCES = 13;

    /// <summary>Bad address.</summary>
    public const int EFAULT = 14;

    /// <summary>Device or resource busy.</summary>
    public const int EBUSY = 16;

    /// <summary>File exists.</summary>
    public const int EEXIST = 17;

    /// <summary>Is a directory.</summary>
    public const int EISDIR = 21;

    /// <summary>Invalid argument.</summary>
    public const int EINVAL = 22;

    /// <summary>Inappropriate ioctl for device.</summary>
    public const int ENOTTY = 25;

    /// <summary>File too large.</summary>
    public const int EFBIG = 27;

    /// <summary>No space left on device.</summary>
    public const int ENOSPC = 28;

    /// <summary>Broken pipe.</summary>
    public const int EPIPE = 32;

    /// <summary>Function not implemented.</summary>
    public const int ENOSYS = 38;

    /// <summary>Operation not supported.</summary>
    public const int EOPNOTSUPP = 95;

    /// <summary>Connection reset by peer.</summary>
    public const int ECONNRESET = 104;

    /// <summary>Connection refused.</summary>
    public const int ECONNREFUSED = 111;

    /// <summary>Disk quota exceeded.</summary>
    public const int EDQUOT = 122;
}
