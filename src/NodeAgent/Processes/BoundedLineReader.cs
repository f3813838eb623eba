using System.Text;

namespace Bgsnap.NodeAgent.Processes;

/// <summary>
/// Reads lines from a process that a hostile machine may have taken over: a line that is too long is skipped, and costs no memory.
/// </summary>
/// <param name="stream">The process's output.</param>
/// <param name="most">Longest line, bytes.</param>
internal sealed class BoundedLineReader(Stream stream, int most = BoundedLineReader.Most)
{
    /// <summary>Longer than any line that our processes write.</summary>
    internal const int Most = 4 << 20;
    private const int Piece = 16 * 1024;
    private readonly byte[] _buffer = new byte[Piece];
    private int _start,
        _end;

    /// <summary>The next line; null: there are no more.</summary>
    internal string? Next() => Take(read: () => new ValueTask<int>(stream.Read(_buffer))).AsTask().GetAwaiter().GetResult();

    /// <summary>As <c>Next</c>, but asynchronous.</summary>
    internal Task<string?> NextAsync() => Take(() => stream.ReadAsync(_buffer)).AsTask();

    private async ValueTask<string?> Take(Func<ValueTask<int>> read)
    {
        using MemoryStream line = new();
        bool tooLong = false,
            any = false;
        while (true)
        {
            int at = _buffer.AsSpan(_start, _end - _start).IndexOf((byte)'\n');
            int length = at < 0 ? _end - _start : at;
            any |= length > 0 || at >= 0;
            tooLong |= line.Length + length > most;
            if (!tooLong)
                line.Write(_buffer, _start, length);
            _start += length + (at < 0 ? 0 : 1);
            if (at >= 0)
            {
                if (!tooLong)
                    return Text(line);
                line.SetLength(0);
                (tooLong, any) = (false, false);
                continue;
            }
            (_start, _end) = (0, await read().ConfigureAwait(false));
            if (_end == 0)
                return any && !tooLong ? Text(line) : null;
        }
    }

    private static string Text(MemoryStream line) => Encoding.UTF8.GetString(line.GetBuffer(), 0, (int)line.Length).TrimEnd('\r');

    /// <summary>Reads to the end, and keeps the last bytes.</summary>
    /// <param name="stream">The process's output.</param>
    /// <param name="most">Most bytes to keep.</param>
    internal static async Task<string> Tail(Stream stream, int most)
    {
        byte[] kept = new byte[most],
            piece = new byte[Piece];
        int length = 0;
        while (await stream.ReadAsync(piece).ConfigureAwait(false) is > 0 and int got)
        {
            int over = Math.Max(0, length + got - most);
            int stays = Math.Max(0, length - over);
            Buffer.BlockCopy(kept, length - stays, kept, 0, stays);
            int taken = Math.Min(got, most);
            Buffer.BlockCopy(piece, got - taken, kept, stays, taken);
            length = stays + taken;
        }
        return Encoding.UTF8.GetString(kept, 0, length);
    }
}
