using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>One value that a user can set.</summary>
/// <param name="Path">Its dotted path.</param>
/// <param name="Default">What it is when the user does not set it.</param>
/// <param name="Comment">The comment above it.</param>
public sealed record ValueRow(string Path, JsonNode? Default, string Comment);

/// <summary>The values of a chart as a table, made from values.yaml and its comments.</summary>
public static class ValuesTable
{
    private static readonly JsonSerializerOptions Readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The table in Markdown.</summary>
    /// <param name="values">The text of values.yaml.</param>
    /// <exception cref="FormatException">A value has no comment.</exception>
    public static string Markdown(string values)
    {
        StringBuilder table = new("| Value | Default | |\n|---|---|---|\n");
        foreach (ValueRow row in Rows(values))
        {
            string standard = row.Default?.ToJsonString(Readable) ?? "null";
            string comment = row.Comment.Replace("|", "\\|", StringComparison.Ordinal);
            table.Append(null, $"| `{row.Path}` | `{standard}` | {comment} |\n");
        }
        return table.ToString();
    }

    /// <summary>The values, in the order of the file.</summary>
    /// <param name="values">The text of values.yaml.</param>
    /// <exception cref="FormatException">A value has no comment.</exception>
    public static IEnumerable<ValueRow> Rows(string values) => RowsOf((YamlMappingNode)Yaml.Nodes(values).Single(), "", values.Split('\n'));

    /// <summary>Descends into a mapping whose keys have comments, and takes one whose keys have none for a single value.</summary>
    private static IEnumerable<ValueRow> RowsOf(YamlMappingNode mapping, string prefix, string[] lines)
    {
        foreach ((YamlNode key, YamlNode value) in mapping)
        {
            string path = prefix + ((YamlScalarNode)key).Value;
            if (value is YamlMappingNode inner && HasCommentedKey(inner, lines))
            {
                foreach (ValueRow row in RowsOf(inner, path + ".", lines))
                    yield return row;
                continue;
            }
            string comment = CommentAbove(key, lines);
            if (comment.Length == 0)
                throw new FormatException($"values.yaml:{key.Start.Line}: {path} has no comment above it");
            yield return new(path, Yaml.ToJson(value), comment);
        }
    }

    private static bool HasCommentedKey(YamlMappingNode mapping, string[] lines) =>
        mapping.Style != MappingStyle.Flow
        && mapping.Any(pair =>
            CommentAbove(pair.Key, lines).Length > 0 || (pair.Value is YamlMappingNode inner && HasCommentedKey(inner, lines))
        );

    /// <summary>The block of comment lines that ends right above a key.</summary>
    private static string CommentAbove(YamlNode key, string[] lines)
    {
        int below = (int)key.Start.Line - 1,
            first = below;
        while (first > 0 && lines[first - 1].TrimStart().StartsWith('#'))
            first--;
        return string.Join(' ', lines[first..below].Select(line => line.Trim().TrimStart('#').Trim()));
    }
}
