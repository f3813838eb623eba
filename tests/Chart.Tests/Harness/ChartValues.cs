using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>The values of bgsnap's chart.</summary>
public static class ChartValues
{
    /// <summary>The text of values.yaml.</summary>
    public static string Text { get; } = Repository.Read("charts/bgsnap/values.yaml");

    /// <summary>Every value that a user can set, by its dotted path, with its default.</summary>
    public static IReadOnlyDictionary<string, JsonNode?> Defaults { get; } =
        ValuesTable.Rows(Text).ToDictionary(row => row.Path, row => row.Default);
}
