using System.Globalization;

namespace Bgsnap.Benchmarks;

/// <summary>Medians and spreads of measurements, of which some may be missing.</summary>
internal static class Numbers
{
    /// <summary>Null when nothing was measured.</summary>
    internal static double? Median(IEnumerable<double?> values)
    {
        var sorted = Present(values);
        return sorted.Length == 0 ? null : (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    /// <summary>Median (least–most).</summary>
    internal static string Cell(IEnumerable<double?> values, string format)
    {
        var sorted = Present(values);
        return sorted.Length == 0 ? "–" : $"{Text(Median(values), format)} ({Text(sorted[0], format)}–{Text(sorted[^1], format)})";
    }

    internal static string Text(double? value, string format) => value?.ToString(format, CultureInfo.InvariantCulture) ?? "–";

    private static double[] Present(IEnumerable<double?> values) => [.. values.OfType<double>().Order()];
}
