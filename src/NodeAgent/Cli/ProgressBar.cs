using System.Globalization;
using System.Text;
using Bgsnap.NodeAgent.Processes;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>Shows progress on a terminal as one line that is overwritten.</summary>
internal static class ProgressBar
{
    /// <summary>Longest line. In the last column of a terminal of 80, some of them wrap.</summary>
    internal const int Columns = 79;

    private const int Width = 14;
    private const string Overwrite = "\r\e[K";

    /// <summary>The line of a capture.</summary>
    internal static string Text(ProgressLine p) =>
        Line(p.Phase, p.Percent, p.BytesPerSecond, $"{Size(p.PendingBytes)} left", Faults(p.Faults));

    /// <summary>The line of a restore.</summary>
    internal static string Text(RestoreProgressLine p) => Line(p.Phase, p.Percent, p.BytesPerSecond, p.Faults > 0 ? Faults(p.Faults) : "");

    /// <summary>The line of an export.</summary>
    internal static string Text(double percent, double bytesPerSecond) => Line("Writing", percent, bytesPerSecond);

    // What does not fit is left out, the last first.
    private static string Line(string phase, double percent, double bytesPerSecond, params ReadOnlySpan<string> more)
    {
        int filled = (int)(Math.Clamp(percent, 0, 100) / 100 * Width);
        StringBuilder line = new(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{phase, -10} [{new string('#', filled)}{new string('.', Width - filled)}] {percent, 5:0.0} %"
            )
        );
        Add(line, string.Create(CultureInfo.InvariantCulture, $"{bytesPerSecond / (1 << 30):0.00} GiB/s"));
        foreach (string part in more)
            Add(line, part);
        return Overwrite + line;
    }

    private static void Add(StringBuilder line, string part)
    {
        if (part.Length > 0 && line.Length + 2 + part.Length <= Columns)
            line.Append("  ").Append(part);
    }

    private static string Faults(long count) => string.Create(CultureInfo.InvariantCulture, $"{count} faults");

    private static string Size(long bytes) =>
        bytes < 10L << 30
            ? string.Create(CultureInfo.InvariantCulture, $"{bytes >> 20} MiB")
            : string.Create(CultureInfo.InvariantCulture, $"{bytes >> 30} GiB");
}
