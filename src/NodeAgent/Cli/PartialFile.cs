using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// A file that is named <c>FILE.partial</c> until it is complete, so that nobody takes a partial file for a complete one.
/// </summary>
internal static class PartialFile
{
    /// <summary>
    /// Creates a file durably, with mode 0600 because guests keep secrets, and gives it its name at the end. Replaces an existing file.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="write">Writes the content.</param>
    /// <exception cref="ArgumentException">The name belongs to something other than a regular file.</exception>
    /// <exception cref="LinuxException">EEXIST: the partial file exists already; others: I/O.</exception>
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
            throw new LinuxException($"{partial} exists already: another export is under way, or one died; remove it", e.Errno);
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

    // A rename would replace the device with the file, not write into it.
    private static void RefuseOthers(string path)
    {
        string full = Path.GetFullPath(path);
        using SafeFileHandle parent = FileSyscalls.OpenAt(
            null,
            Path.GetDirectoryName(full) ?? "/",
            FileSyscalls.O_RDONLY | FileSyscalls.O_DIRECTORY
        );
        if (FileSyscalls.TryStatus(parent, Path.GetFileName(full)) is { IsRegular: false })
            throw new ArgumentException($"{path} exists and is not a regular file");
    }
}
