using System.Globalization;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>Progress on a terminal as one line that is overwritten, or JSON lines as they come; silent when neither fits.</summary>
internal sealed class ProgressBar(bool json)
{
    private const int Width = 30;
    private readonly bool _terminal = !json && !Console.IsErrorRedirected;
    private bool _shown;

    internal void Show(ProgressLine p, string line)
    {
        if (json)
            Console.Out.WriteLine(line);
        if (!_terminal)
            return;
        int filled = (int)(p.Percent / 100 * Width);
        Console.Error.Write(string.Create(CultureInfo.InvariantCulture,
            $"\r\e[K{p.Phase,-10} [{new string('#', filled)}{new string('.', Width - filled)}] {p.Percent,5:0.0} %  {p.BytesPerSecond / (1 << 30):0.00} GiB/s  {p.PendingBytes / 4096} pages protected  {p.Faults} faults"));
        _shown = true;
    }

    internal void End()
    {
        if (_shown)
            Console.Error.WriteLine();
    }
}
