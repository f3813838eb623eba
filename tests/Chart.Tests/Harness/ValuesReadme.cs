namespace Bgsnap.Chart.Tests.Harness;

/// <summary>The place in the chart's README where the table of values stands.</summary>
public static class ValuesReadme
{
    private const string Begin = "<!-- values: made by `make chart-readme` -->\n";
    private const string End = "<!-- end of values -->";

    /// <summary>The README with this table in the place of the one that it has.</summary>
    /// <exception cref="FormatException">The README has no place for the table.</exception>
    public static string WithTable(string readme, string table)
    {
        int begin = readme.IndexOf(Begin, StringComparison.Ordinal),
            end = readme.IndexOf(End, StringComparison.Ordinal);
        if (begin < 0 || end < begin)
            throw new FormatException($"the README lacks the lines {Begin.TrimEnd()} and {End}");
        return readme[..(begin + Begin.Length)] + table + readme[end..];
    }
}
