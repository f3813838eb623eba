using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>Every value a user can set, with its default: what the renderer makes of values.yaml and its comments.</summary>
public static partial class ValuesTable
{
    private static readonly Lazy<string> Lazily = new(() => ChartRenderer.RenderChart(Repository.Chart, null, "--values-table").Succeeded().Output);

    public static string Markdown => Lazily.Value;

    public static Dictionary<string, JsonNode?> Defaults { get; } = Row().Matches(Markdown)
        .ToDictionary(m => m.Groups[1].Value, m => JsonNode.Parse(m.Groups[2].Value));

    [GeneratedRegex(@"^\| `([^`]+)` \| `(.*?)` \| ", RegexOptions.Multiline)]
    private static partial Regex Row();
}
