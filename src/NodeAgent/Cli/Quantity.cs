using System.Globalization;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>Sizes and times in their usual forms: <c>512Mi</c>, <c>1.5G</c>, <c>250ms</c>.</summary>
internal static class Quantity
{
    private static readonly (string Suffix, double Scale)[] Sizes =
    [
        ("Ki", 1L << 10),
        ("Mi", 1L << 20),
        ("Gi", 1L << 30),
        ("Ti", 1L << 40),
        ("k", 1e3),
        ("K", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("", 1),
    ];

    private static readonly (string Suffix, double Microseconds)[] Times =
    [
        ("us", 1),
        ("µs", 1),
        ("ms", 1e3),
        ("s", 1e6),
        ("m", 60e6),
        ("h", 3600e6),
    ];

    /// <summary>Bytes from a Kubernetes-like quantity; a trailing <c>B</c> or <c>/s</c> is accepted too. Null: not a quantity.</summary>
    internal static long? ParseSize(string text)
    {
        string t = text.Trim();
        if (t.EndsWith("/s", StringComparison.Ordinal))
            t = t[..^2];
        if (t.EndsWith('B'))
            t = t[..^1];
        return Parse(t, Sizes) is { } bytes && bytes is >= 0 and < 9e18 ? (long)bytes : null;
    }

    /// <summary>A time with its unit; null: not a time.</summary>
    internal static TimeSpan? ParseTime(string text) =>
        Parse(text.Trim(), Times) is { } us && us is >= 0 and < 1e15 ? TimeSpan.FromMicroseconds(us) : null;

    /// <summary>Formats bytes for a person.</summary>
    internal static string FormatSize(double bytes)
    {
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB"];
        int u = 0;
        for (; bytes >= 1024 && u < units.Length - 1; u++)
            bytes /= 1024;
        return string.Create(CultureInfo.InvariantCulture, $"{bytes:0.##} {units[u]}");
    }

    /// <summary>Formats microseconds for a person.</summary>
    internal static string FormatTime(long microseconds) =>
        microseconds switch
        {
            < 1000 => string.Create(CultureInfo.InvariantCulture, $"{microseconds} µs"),
            < 1_000_000 => string.Create(CultureInfo.InvariantCulture, $"{microseconds / 1e3:0.##} ms"),
            _ => string.Create(CultureInfo.InvariantCulture, $"{microseconds / 1e6:0.##} s"),
        };

    private static double? Parse(string text, (string Suffix, double Scale)[] units)
    {
        foreach ((string suffix, double scale) in units)
        {
            if (
                text.EndsWith(suffix, StringComparison.Ordinal)
                && double.TryParse(
                    text.AsSpan(0, text.Length - suffix.Length),
                    NumberStyles.AllowDecimalPoint,
                    CultureInfo.InvariantCulture,
                    out double number
                )
            )
                return number * scale;
        }
        return null;
    }
}
