using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>Opens paths inside another root without ever leaving it: openat2(2) with RESOLVE_IN_ROOT.</summary>
internal static unsafe partial class OpenInRoot
{
    private const long SysOpenat2 = 437;
    private const ulong OPath = 0x200000,
        ODirectory = 0x10000,
        OCloexec = 0x80000;
    private const ulong ResolveNoMagiclinks = 0x02,
        ResolveNoSymlinks = 0x04,
        ResolveInRoot = 0x10;
    private const int EAGAIN = 11,
        EINTR = 4;

    [StructLayout(LayoutKind.Sequential)]
    internal struct OpenHow
    {
        internal ulong Flags;
        internal ulong Mode;
        internal ulong Resolve;
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial long Openat2(
        long number,
        SafeHandle directory,
        [MarshalAs(UnmanagedType.LPUTF8Str)] string path,
        OpenHow* how,
        nuint size
    );

    /// <summary>The root directory of a process, as the process sees it.</summary>
    /// <exception cref="LinuxException">The process has ended, or we may not look at it (CAP_SYS_PTRACE).</exception>
    internal static SafeFileHandle RootOf(ProcessEntry process) =>
        FileSyscalls.OpenAt(null, process.At("root"), (int)OPath | FileSyscalls.O_DIRECTORY, 0, $"/proc/{process.Pid}/root");

    /// <summary>Opens a path for use as a path only (O_PATH). Absolute links and <c>..</c> stay within the root.</summary>
    /// <param name="root">The root.</param>
    /// <param name="path">Path in it; a leading slash means the root.</param>
    /// <param name="directory">Whether it must be a directory.</param>
    /// <exception cref="LinuxException">ENOENT, ENOTDIR, ELOOP for magic links.</exception>
    internal static SafeFileHandle Open(SafeFileHandle root, string path, bool directory) =>
        Open(root, path, OPath | (directory ? ODirectory : 0), 0, ResolveNoMagiclinks);

    /// <summary>As <see cref="Open(SafeFileHandle, string, bool)"/>, but no component of the path may be a link.</summary>
    internal static SafeFileHandle OpenWithoutLinks(SafeFileHandle root, string path) => Open(root, path, OPath, 0, ResolveNoSymlinks);

    /// <summary>Creates a file, open for reading and writing; null if the name is taken.</summary>
    /// <param name="root">The root.</param>
    /// <param name="path">Path in it, without any link.</param>
    /// <param name="mode">Permissions, ignoring the umask.</param>
    internal static SafeFileHandle? TryMake(SafeFileHandle root, string path, uint mode)
    {
        SafeFileHandle file;
        try
        {
            file = Open(root, path, FileSyscalls.O_RDWR | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL, mode, ResolveNoSymlinks);
        }
        catch (LinuxException e) when (e.Errno == Errno.EEXIST)
        {
            return null;
        }
        FileSyscalls.SetMode(file, mode, path);
        return file;
    }

    /// <summary>Reopens an O_PATH handle for reading and writing, once its kind is known: opening some devices has side effects.</summary>
    /// <exception cref="LinuxException">EROFS, EACCES, EBUSY.</exception>
    internal static SafeFileHandle ForWriting(SafeFileHandle handle, string display) =>
        FileSyscalls.OpenAt(null, PathOf(handle), FileSyscalls.O_RDWR, 0, display);

    private static SafeFileHandle Open(SafeFileHandle root, string path, ulong flags, uint mode, ulong resolve)
    {
        OpenHow how = new()
        {
            Flags = flags | OCloexec,
            Mode = mode,
            Resolve = ResolveInRoot | resolve,
        };
        for (int attempt = 0; ; attempt++)
        {
            // SAFETY: how lives on the stack for the call, and its size is given.
            long fd = Openat2(SysOpenat2, root, path, &how, (nuint)sizeof(OpenHow));
            if (fd >= 0)
                return new SafeFileHandle((nint)fd, ownsHandle: true);
            // EAGAIN: a name on the path was renamed meanwhile, and the kernel could not tell whether the path left the root.
            if (Marshal.GetLastPInvokeError() is not (EAGAIN or EINTR) || attempt == 100)
                throw LinuxException.Last($"open {path}");
        }
    }

    /// <summary>
    /// A path by which any process of ours reaches what is open here, as long as it is open; null if <paramref name="handle"/> is null.
    /// </summary>
    [return: NotNullIfNotNull(nameof(handle))]
    internal static string? PathOf(SafeFileHandle? handle) =>
        handle is null ? null : $"/proc/{Environment.ProcessId}/fd/{handle.DangerousGetHandle()}";
}
