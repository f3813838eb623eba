using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>A tick line of a guest. The boot sector counts passes and reports neither writes nor stalls.</summary>
/// <param name="Tick">Line number (Linux) or pass (boot sector); continues after a restore.</param>
/// <param name="Writes">Page writes since the guest began.</param>
/// <param name="Delta">Page writes since its last tick line.</param>
/// <param name="Corrupt">Pages that did not hold what the guest had last written to them.</param>
/// <param name="Checked">Pages whose whole content the guest has checked.</param>
/// <param name="MaxStall">Longest time between two writes since the last tick line, on the guest's clock.</param>
/// <param name="At">When the harness received the line: <see cref="System.Diagnostics.Stopwatch.GetTimestamp"/>.</param>
public sealed record GuestReport(long Tick, long Writes, long Delta, long Corrupt, long Checked, TimeSpan MaxStall, long At)
{
    /// <summary>The number of the last acknowledged disk write; 0 in modes without disks.</summary>
    public long Disk { get; init; }

    /// <summary>Parses a line; null for any other line, and for half a line: a restored guest may continue in the middle of one.</summary>
    public static GuestReport? Parse(string line, long at)
    {
        ArgumentNullException.ThrowIfNull(line);
        if (!line.StartsWith("tick=", StringComparison.Ordinal))
            return null;
        var words = GuestRecord.Words(line);
        if (words.ContainsKey("maxstall_us"))
        {
            return
                words.TryNumber("tick", out var tick)
                && words.TryNumber("writes", out var writes)
                && words.TryNumber("delta", out var delta)
                && words.TryNumber("corrupt", out var corrupt)
                && words.TryNumber("checked", out var whole)
                && words.TryNumber("maxstall_us", out var stall)
                && (!words.ContainsKey("disk") || words.TryNumber("disk", out _))
                ? new GuestReport(tick, writes, delta, corrupt, whole, TimeSpan.FromMicroseconds(stall), at)
                {
                    Disk = words.TryNumber("disk", out var disk) ? disk : 0,
                }
                : null;
        }

        return words.Count == 2 && words.TryHex("tick", out var pass) && words.TryHex("corrupt", out var bad)
            ? new GuestReport(pass, 0, 0, bad, 0, TimeSpan.Zero, at)
            : null;
    }
}

/// <summary>Write latencies of one second, of a guest in mode rate.</summary>
public sealed record LatencyReport(long Second, TimeSpan P50, TimeSpan P99, TimeSpan Max, long Count, long Skipped, long At)
{
    public static LatencyReport? Parse(string line, long at)
    {
        ArgumentNullException.ThrowIfNull(line);
        if (!line.StartsWith("rate=", StringComparison.Ordinal))
            return null;
        var words = GuestRecord.Words(line);
        return
            words.TryNumber("rate", out var second)
            && words.TryMicroseconds("p50_us", out var p50)
            && words.TryMicroseconds("p99_us", out var p99)
            && words.TryMicroseconds("max_us", out var max)
            && words.TryNumber("count", out var count)
            && words.TryNumber("skipped", out var skipped)
            ? new LatencyReport(second, p50, p99, max, count, skipped, at)
            : null;
    }
}

/// <summary>Parses the key=value words of a guest's line.</summary>
public static class GuestRecord
{
    public static IReadOnlyDictionary<string, string> Words(string line)
    {
        ArgumentNullException.ThrowIfNull(line);
        var words = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var word in line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = word.IndexOf('=', StringComparison.Ordinal);
            if (equals > 0)
                words[word[..equals]] = word[(equals + 1)..];
        }

        return words;
    }

    internal static bool TryNumber(this IReadOnlyDictionary<string, string> words, string key, out long value)
    {
        value = 0;
        return words.TryGetValue(key, out var text) && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
    }

    internal static bool TryHex(this IReadOnlyDictionary<string, string> words, string key, out long value)
    {
        value = 0;
        return words.TryGetValue(key, out var text)
            && text.Length == 8
            && long.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);
    }

    internal static bool TryMicroseconds(this IReadOnlyDictionary<string, string> words, string key, out TimeSpan value)
    {
        value = default;
        if (
            !words.TryGetValue(key, out var text)
            || !double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number)
        )
        {
            return false;
        }

        value = TimeSpan.FromMicroseconds(number);
        return true;
    }
}
