using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>
/// The file calls that .NET does not offer directly: O_DIRECT, the *at family with O_NOFOLLOW, renameat2, flock on a directory. EINTR is
/// retried; every other failure is a <see cref="LinuxException"/>.
/// </summary>
internal static unsafe partial class FileSyscalls
{
    public const int O_RDONLY = 0,
        O_WRONLY = 1,
        O_RDWR = 2,
        O_PATH = 0x200000,
        O_CREAT = 0x40,
        O_EXCL = 0x80,
        O_NONBLOCK = 0x800,
        O_DIRECT = 0x4000,
        O_DIRECTORY = 0x10000,
        O_NOFOLLOW = 0x20000,
        O_CLOEXEC = 0x80000,
        O_TMPFILE = 0x410000;

    public const int AT_REMOVEDIR = 0x200;

    private const int AtFdCwd = -100,
        AtSymlinkNofollow = 0x100,
        AtEmptyPath = 0x1000;
    private const int LockExNb = 2 | 4;
    private const uint RenameNoReplace = 1;
    private const uint StatxBasic = 0x7ff,
        StatxMountId = 0x1000;

    /// <summary>Opens <paramref name="path"/> relative to <paramref name="directory"/> (null: the working directory).
    /// O_CLOEXEC is always added.</summary>
    /// <param name="directory">Start of a relative path.</param>
    /// <param name="path">The path.</param>
    /// <param name="flags">O_… constants.</param>
    /// <param name="mode">Permissions of a created file.</param>
    /// <param name="display">The name in the error message; default <paramref name="path"/>.</param>
    public static SafeFileHandle OpenAt(SafeFileHandle? directory, string path, int flags, uint mode = 0, string? display = null)
    {
        int fd;
        do
        {
            fd = directory is null ? openat(AtFdCwd, path, flags | O_CLOEXEC, mode) : openat(directory, path, flags | O_CLOEXEC, mode);
        } while (fd < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        return fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true) : throw LinuxException.Last($"open {display ?? path}");
    }

    /// <summary>Writes all bytes at <paramref name="offset"/>. The error for a full volume includes the remedy.</summary>
    public static void WriteAll(SafeFileHandle file, byte* data, nuint length, long offset, string name)
    {
        while (length > 0)
        {
            nint n = pwrite(file, data, length, offset);
            if (n > 0)
            {
                data += n;
                offset += n;
                length -= (nuint)n;
                continue;
            }
            int errno = n == 0 ? Errno.EIO : Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
                throw WriteFailure(name, length, offset, errno);
        }
    }

    private static LinuxException WriteFailure(string name, nuint length, long offset, int errno)
    {
        string remedy = errno switch
        {
            Errno.ENOSPC => "the volume is full: free some space, or use a larger one; no snapshot was kept",
            Errno.EDQUOT => "the quota of the volume is used up: raise it, or free some space; no snapshot was kept",
            Errno.EFBIG => "the file system or RLIMIT_FSIZE allows no larger file: use another volume",
            _ => "the write failed",
        };
        return new LinuxException($"{name}: {remedy}; write of {length} bytes at offset {offset}", errno);
    }

    /// <summary>Reads up to <paramref name="length"/> bytes at <paramref name="offset"/>; fewer only at the end of the file.</summary>
    public static nuint ReadAll(SafeFileHandle file, byte* destination, nuint length, long offset, string name)
    {
        nuint done = 0;
        while (done < length)
        {
            nint n = Libc.PRead(file, destination + done, length - done, offset + (long)done);
            if (n == 0)
                break;
            if (n > 0)
                done += (nuint)n;
            else if (Marshal.GetLastPInvokeError() is var errno && errno != Errno.EINTR)
                throw new LinuxException($"{name}: read of {length} bytes at offset {offset}", errno);
        }
        return done;
    }

    /// <summary>Makes the file's data and size, or the directory's entries, durable.</summary>
    public static void Sync(SafeFileHandle file, string name)
    {
        int r;
        do r = fsync(file);
        while (r < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        if (r < 0)
        {
            // Network file systems with delayed allocation report a full volume only here.
            int errno = Marshal.GetLastPInvokeError();
            throw errno is Errno.ENOSPC or Errno.EDQUOT ? WriteFailure(name, 0, 0, errno) : new LinuxException($"{name}: fsync", errno);
        }
    }

    /// <summary>Sets the file's length; an extension is a hole.</summary>
    public static void Truncate(SafeFileHandle file, long length, string name)
    {
        int r;
        do r = ftruncate(file, length);
        while (r < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        if (r < 0)
            throw LinuxException.Last($"{name}: ftruncate to {length}");
    }

    /// <summary>Sets permissions, ignoring the umask.</summary>
    public static void SetMode(SafeFileHandle file, uint mode, string name)
    {
        if (fchmod(file, mode) < 0)
            throw LinuxException.Last($"{name}: fchmod to {Convert.ToString(mode, 8)}");
    }

    /// <summary>Sets owner and group.</summary>
    public static void SetOwner(SafeFileHandle file, uint uid, uint gid, string name)
    {
        if (fchown(file, uid, gid) < 0)
            throw LinuxException.Last($"{name}: fchown to {uid}:{gid}");
    }

    /// <summary>Turns O_DIRECT on or off. False if the file system has no direct I/O.</summary>
    public static bool TrySetDirect(SafeFileHandle file, bool direct)
    {
        int flags = Libc.Fcntl(file, Libc.F_GETFL, 0);
        return flags >= 0 && Libc.Fcntl(file, Libc.F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
    }

    /// <summary>Creates a directory; throws EEXIST if the name is taken.</summary>
    public static void MakeDirectory(SafeFileHandle directory, string name, uint mode)
    {
        if (mkdirat(directory, name, mode) < 0)
            throw LinuxException.Last($"mkdir {name}");
    }

    /// <summary>Removes a name; returns 0 or the error number, because callers continue.</summary>
    public static int TryUnlink(SafeFileHandle directory, string name, int flags) =>
        unlinkat(directory, name, flags) == 0 ? 0 : Marshal.GetLastPInvokeError();

    /// <summary>
    /// Renames within <paramref name="directory"/>. Where the file system supports it, a taken name fails with EEXIST; elsewhere (NFS, some
    /// FUSE) it is a plain rename, which for a directory replaces nothing but an empty directory.
    /// </summary>
    public static void RenameNoReplaceIn(SafeFileHandle directory, string from, string to)
    {
        if (renameat2(directory, from, directory, to, RenameNoReplace) == 0)
            return;
        int errno = Marshal.GetLastPInvokeError();
        if (errno is Errno.EINVAL or Errno.ENOSYS or Errno.EOPNOTSUPP)
        {
            if (TryStatus(directory, to) is not null)
                throw new LinuxException($"rename to {to}", Errno.EEXIST);
            if (renameat2(directory, from, directory, to, 0) == 0)
                return;
            errno = Marshal.GetLastPInvokeError();
        }
        throw new LinuxException($"rename {from} to {to}", errno);
    }

    /// <summary>
    /// Takes the exclusive flock without waiting. Returns 0, EAGAIN if another process has it, or another error number if the file system
    /// has no such locks.
    /// </summary>
    public static int TryLock(SafeFileHandle file)
    {
        int r;
        do r = flock(file, LockExNb);
        while (r < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        return r == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    /// <summary>Status of an open file.</summary>
    public static FileStatus Status(SafeFileHandle file, string name)
    {
        FileStatus status;
        return statx(file, "", AtEmptyPath, StatxBasic | StatxMountId, &status) == 0 ? status : throw LinuxException.Last($"stat {name}");
    }

    /// <summary>Status of a name without following links; null if the name does not exist.</summary>
    public static FileStatus? TryStatus(SafeFileHandle directory, string name)
    {
        FileStatus status;
        if (statx(directory, name, AtSymlinkNofollow, StatxBasic, &status) == 0)
            return status;
        return Marshal.GetLastPInvokeError() == Errno.ENOENT ? null : throw LinuxException.Last($"stat {name}");
    }

    /// <summary>The kernel's struct statx, with the fields used here.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    public struct FileStatus
    {
        [FieldOffset(16)]
        public uint Links;

        [FieldOffset(20)]
        public uint Uid;

        [FieldOffset(24)]
        public uint Gid;

        [FieldOffset(28)]
        public ushort Mode;

        [FieldOffset(32)]
        public ulong Inode;

        [FieldOffset(40)]
        public long Size;

        [FieldOffset(48)]
        public ulong Blocks;

        [FieldOffset(112)]
        public long ModifiedSeconds;

        [FieldOffset(128)]
        public uint DeviceNumberMajor;

        [FieldOffset(132)]
        public uint DeviceNumberMinor;

        [FieldOffset(136)]
        public uint DeviceMajor;

        [FieldOffset(140)]
        public uint DeviceMinor;

        [FieldOffset(144)]
        public ulong MountId;

        /// <summary>Bytes that the file takes on its volume.</summary>
        public readonly long AllocatedBytes => (long)Blocks * 512;
        public readonly bool IsRegular => (Mode & 0xf000) == 0x8000;
        public readonly bool IsDirectory => (Mode & 0xf000) == 0x4000;
        public readonly bool IsBlockDevice => (Mode & 0xf000) == 0x6000;

        public readonly bool IsSameFile(in FileStatus other) =>
            (Inode, DeviceMajor, DeviceMinor) == (other.Inode, other.DeviceMajor, other.DeviceMinor);
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int openat(int dir, string path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int openat(SafeFileHandle dir, string path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pwrite(SafeFileHandle fd, byte* data, nuint length, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fsync(SafeFileHandle fd);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ftruncate(SafeFileHandle fd, long length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchmod(SafeFileHandle fd, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchown(SafeFileHandle fd, uint uid, uint gid);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int mkdirat(SafeFileHandle dir, string path, uint mode);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int unlinkat(SafeFileHandle dir, string path, int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int renameat2(SafeFileHandle fromDir, string from, SafeFileHandle toDir, string to, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int flock(SafeFileHandle fd, int operation);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int statx(SafeFileHandle dir, string path, int flags, uint mask, FileStatus* status);
}
