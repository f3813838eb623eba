using System.Globalization;
using System.Text.RegularExpressions;

namespace Bgsnap.Operator.Shared;

/// <summary>Durations and sizes in the notation of our API objects.</summary>
internal static partial class Durations
{
    /// <summary>Reads <c>1h30m</c>, <c>90s</c>; the API server has checked the form.</summary>
    public static TimeSpan Parse(string? text, TimeSpan otherwise)
    {
        if (text is null || Form().Match(text) is not { Success: true } m)
            return otherwise;
        return new TimeSpan(Number(m.Groups["h"]), Number(m.Groups["m"]), Number(m.Groups["s"]));
    }

    /// <summary>Formats microseconds in ms or s: <c>0.85ms</c>, <c>12ms</c>, <c>3.4s</c>.</summary>
    public static string Text(long microseconds) =>
        microseconds switch
        {
            < 10_000 => string.Create(CultureInfo.InvariantCulture, $"{microseconds / 1000.0:0.##}ms"),
            < 999_500 => string.Create(CultureInfo.InvariantCulture, $"{microseconds / 1000.0:0}ms"),
            _ => string.Create(CultureInfo.InvariantCulture, $"{microseconds / 1e6:0.##}s"),
        };

    /// <summary>Writes bytes as <c>1.2Gi</c>.</summary>
    public static string Size(long bytes) =>
        bytes switch
        {
            >= 1L << 30 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 30):0.##}Gi"),
            >= 1L << 20 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 20):0.#}Mi"),
            _ => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1024.0:0.#}Ki"),
        };

    private static int Number(Group g) => g.Success ? int.Parse(g.ValueSpan, CultureInfo.InvariantCulture) : 0;

    [GeneratedRegex("^((?<h>[0-9]{1,5})h)?((?<m>[0-9]{1,6})m)?((?<s>[0-9]{1,6})s)?$", RegexOptions.CultureInvariant)]
    private static partial Regex Form();
}
