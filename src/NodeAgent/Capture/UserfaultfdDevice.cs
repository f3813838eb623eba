using System.Globalization;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// The userfaultfd device among the descriptors of a QEMU: ours has a flag that QEMU's own, which it opens once and keeps for good, has
/// not.
/// </summary>
internal static class UserfaultfdDevice
{
    /// <summary>
    /// O_NOATIME, which means nothing for the device. It belongs to the open file, so that a duplicate in QEMU has it too.
    /// </summary>
    internal const int Mark = 0x40000;

    /// <summary>Descriptors of a process that are ours, handed to it.</summary>
    /// <exception cref="IOException">It has ended.</exception>
    /// <exception cref="UnauthorizedAccessException">It is not ours to look at.</exception>
    internal static IReadOnlyList<int> FindIn(ProcessEntry process) =>
        [
            .. process
                .Descriptors()
                .Where(l => IsDevice(new FileInfo(l).LinkTarget))
                .Select(l => int.Parse(Path.GetFileName(l), CultureInfo.InvariantCulture))
                .Where(fd => IsOurs(process, fd)),
        ];

    /// <summary>
    /// Whether a link in /proc/PID/fd leads to the device. In another mount namespace than the one it was opened in the path is cut
    /// short.
    /// </summary>
    internal static bool IsDevice(string? link) => link is not null && link.EndsWith("/userfaultfd", StringComparison.Ordinal);

    /// <summary>Whether a descriptor that leads to the device has our flag.</summary>
    internal static bool IsOurs(ProcessEntry process, int fd)
    {
        try
        {
            // "flags:\t0102002", octal.
            string? flags = File.ReadLines(process.At($"fdinfo/{fd}"))
                .FirstOrDefault(l => l.StartsWith("flags:", StringComparison.Ordinal));
            return flags is not null && (Convert.ToInt64(flags["flags:".Length..].Trim(), 8) & Mark) != 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // closed meanwhile
        }
    }
}
