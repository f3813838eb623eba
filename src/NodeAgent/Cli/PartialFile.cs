using Bgsnap.NodeAgent.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>A file that has another name, <c>FILE.partial</c>, until it is whole, so that nobody takes half of it for all.</summary>
internal static class PartialFile
{
    /// <summary>Makes a file, mode 0600 since guests keep secrets, durable and under its name. One that is there is replaced.</summary>
    /// <param name="path">The file.</param>
    /// <param name="write">Writes it.</param>
    /// <exception cref="ArgumentException">The name belongs to something that is no regular file.</exception>
    /// <exception cref="LinuxException">EEXIST: the partial file is there already; others: I/O.</exception>
    internal static void Write(string path, Action<SafeFileHandle> write)
    {
        RefuseOthers(path);
        string partial = path + ".partial";
        SafeFileHandle file;
        try
        {
            file = FileSyscalls.OpenAt(
                null,
                partial,
                FileSyscalls.O_WRONLY | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL,
                0x180 /* 0600 */
            );
        }
        catch (LinuxException e) when (e.Errno == Errno.EEXIST)
        {
            throw new LinuxException($"{partial} is there already: another export is under way, or one died; remove it", e.Errno);
        }
        try
        {
            using (file)
            {
                write(file);
                FileSyscalls.Sync(file, partial);
            }
            File.Move(partial, path, overwrite: true);
        }
        catch
        {
            File.Delete(partial);
            throw;
        }
    }

    // A rename would put the file in the place of the device, not into it.
    private static void RefuseOthers(string path)
    {
        string full = Path.GetFullPath(path);
        using SafeFileHandle parent = FileSyscalls.OpenAt(
            null,
            Path.GetDirectoryName(full) ?? "/",
            FileSyscalls.O_RDONLY | FileSyscalls.O_DIRECTORY
        );
        if (FileSyscalls.TryStatus(parent, Path.GetFileName(full)) is { IsRegular: false })
            throw new ArgumentException($"{path} is there and is no regular file");
    }
}
