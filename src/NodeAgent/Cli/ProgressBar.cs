using System.Globalization;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>Shows progress on a terminal as one line that is overwritten.</summary>
internal static class ProgressBar
{
    private const int Width = 30;

    internal static string Text(ProgressLine p)
    {
        int filled = (int)(p.Percent / 100 * Width);
        return string.Create(
            CultureInfo.InvariantCulture,
            $"\r\e[K{p.Phase, -10} [{new string('#', filled)}{new string('.', Width - filled)}] {p.Percent, 5:0.0} %  "
                + $"{p.BytesPerSecond / (1 << 30):0.00} GiB/s  {p.PendingBytes / 4096} pages protected  {p.Faults} faults"
        );
    }
}
