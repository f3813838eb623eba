using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Restore;

/// <summary>Which processes have an image open, and whether a QEMU writes to it.</summary>
internal static unsafe partial class ImageUse
{
    // QEMU's block/file-posix.c: bytes from 100 on stand for the permissions that are in use, one byte each; bytes from 200 on stand for
    // those that are not shared. A writer holds a read lock on the second byte of both.
    private const long WriteByte = 101,
        NoOtherWriterByte = 201;
    private const int F_OFD_GETLK = 36,
        F_OFD_SETLK = 37;
    private const short ReadLock = 0,
        WriteLock = 1,
        Unlocked = 2;

    /// <summary>Whether a process has exactly this file or block device open.</summary>
    internal static bool IsOpenIn(ProcessEntry process, in FileSyscalls.FileStatus wanted)
    {
        const int oPath = 0x200000;
        foreach (string link in process.Descriptors())
        {
            try
            {
                using SafeFileHandle file = FileSyscalls.OpenAt(null, link, oPath);
                FileSyscalls.FileStatus status = FileSyscalls.Status(file, link);
                if (
                    wanted.IsBlockDevice
                        ? status.IsBlockDevice
                            && (status.DeviceNumberMajor, status.DeviceNumberMinor) == (wanted.DeviceNumberMajor, wanted.DeviceNumberMinor)
                        : status.IsSameFile(wanted)
                )
                    return true;
            }
            catch (LinuxException)
            {
                // Closed meanwhile.
            }
        }
        return false;
    }

    /// <summary>Whether a QEMU holds the writer lock. A QEMU that waits for a migration does not hold it yet.</summary>
    internal static bool IsBeingWritten(SafeFileHandle file)
    {
        FileLock wanted = new()
        {
            Type = WriteLock,
            Start = WriteByte,
            Length = 1,
        };
        // No answer (a file system without locks): nobody can hold a lock there.
        return FcntlLock(file, F_OFD_GETLK, &wanted) == 0 && wanted.Type != Unlocked;
    }

    /// <summary>Takes or releases the locks of a QEMU that writes. They belong to the open file and end with it.</summary>
    internal static void Lock(SafeFileHandle file, bool locked)
    {
        foreach (long at in (ReadOnlySpan<long>)[WriteByte, NoOtherWriterByte])
        {
            FileLock wanted = new()
            {
                Type = locked ? ReadLock : Unlocked,
                Start = at,
                Length = 1,
            };
            _ = FcntlLock(file, F_OFD_SETLK, &wanted);
        }
    }

    /// <summary>struct flock of fcntl(2).</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct FileLock
    {
        internal short Type;
        internal short Whence;
        internal long Start;
        internal long Length;
        internal int Pid;
    }

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int FcntlLock(SafeHandle file, int command, FileLock* argument);
}
