using System.Globalization;
using Bgsnap.Linux;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Finds the userfaultfd device among QEMU's descriptors: the agent's has a flag that QEMU's own does not have. QEMU opens its own once and
/// keeps it permanently.
/// </summary>
internal static class UserfaultfdDevice
{
    /// <summary>O_NOATIME, which has no effect on the device. It belongs to the open file, so a duplicate in QEMU has it too.</summary>
    internal const int Mark = 0x40000;

    /// <summary>The agent's descriptors that were passed to a process.</summary>
    /// <exception cref="IOException">The process has ended.</exception>
    /// <exception cref="UnauthorizedAccessException">The agent may not look at the process.</exception>
    internal static IReadOnlyList<int> FindIn(ProcessEntry process) =>
        [
            .. process
                .Descriptors()
                .Where(l => IsDevice(new FileInfo(l).LinkTarget))
                .Select(l => int.Parse(Path.GetFileName(l), CultureInfo.InvariantCulture))
                .Where(fd => IsOurs(process, fd)),
        ];

    /// <summary>
    /// Whether a link in /proc/PID/fd leads to the device. In a mount namespace other than the one it was opened in, the path is shortened.
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
