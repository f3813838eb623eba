using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>Removes files from the page cache, as on a node that has never read them, or loads them into it.</summary>
public static unsafe partial class PageCache
{
    private const int DontNeed = 4; // POSIX_FADV_DONTNEED
    private const long SysCachestat = 451;
    private const int Page = 4096,
        Tries = 5;

    [StructLayout(LayoutKind.Sequential)]
    private struct Range
    {
        internal ulong Offset;
        internal ulong Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Statistics
    {
        internal ulong Cached;
        private fixed ulong _rest[4];
    }

    /// <summary>Removes files from the cache and checks that none of their pages is left. The disk's own cache is out of reach.</summary>
    public static void Drop(IEnumerable<string> files)
    {
        ArgumentNullException.ThrowIfNull(files);
        foreach (var file in files)
        {
            using var handle = File.OpenHandle(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            if (Synchronize(handle) != 0) // dirty pages cannot be dropped
                throw new Win32Exception(Marshal.GetLastPInvokeError(), $"fsync of {file}");
            for (var tries = 1; ; tries++)
            {
                var error = Advise(handle, 0, 0, DontNeed);
                if (error != 0)
                    throw new Win32Exception(error, $"posix_fadvise of {file}");
                var left = Cached(handle);
                if (left == 0)
                    break;
                if (tries == Tries)
                    throw new InvalidOperationException($"{left * Page >> 10} KiB of {file} stay in the page cache");
                Thread.Sleep(100);
            }
        }
    }

    /// <summary>Reads files from end to end.</summary>
    public static void Fill(IEnumerable<string> files)
    {
        ArgumentNullException.ThrowIfNull(files);
        var buffer = new byte[1 << 20];
        foreach (var file in files)
        {
            using var handle = File.OpenHandle(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            for (long at = 0, got = 1; got > 0; at += got)
                got = RandomAccess.Read(handle, buffer, at);
        }
    }

    /// <summary>The number of a file's pages in the page cache; also 0 if the kernel does not report it (before 6.5).</summary>
    private static ulong Cached(SafeHandle file)
    {
        Range all = default; // a length of 0: to the end
        Statistics found;
        var reference = false;
        try
        {
            file.DangerousAddRef(ref reference);
            // SAFETY: both structures live on the stack for the call, and the kernel knows their sizes.
            return Call(SysCachestat, (int)file.DangerousGetHandle(), &all, &found, 0) == 0 ? found.Cached : 0;
        }
        finally
        {
            if (reference)
                file.DangerousRelease();
        }
    }

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Synchronize(SafeHandle file);

    [LibraryImport("libc", EntryPoint = "posix_fadvise")]
    private static partial int Advise(SafeHandle file, long offset, long length, int advice);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial long Call(long number, long file, Range* range, Statistics* found, long flags);
}
