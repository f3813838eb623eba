using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>Bad values are refused before anything is applied, with a message that names the value.</summary>
public sealed class RefusedValuesTests
{
    private static readonly Dictionary<string, JsonObject> All = Yaml.Documents(Repository.Read("tests/Chart.Tests/Cases/refused.yaml"))
        .Single()
        .AsArray()
        .ToDictionary(c => c!["set"]!.ToJsonString(), c => (JsonObject)c!);

    public static TheoryData<string> Cases => [.. All.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_bad_value_is_refused_by_name(string set)
    {
        JsonObject values = ChartRenderer.Values([.. All[set]["set"]!.AsObject().Select(p => (p.Key, p.Value))]);
        Rendering rendering = ChartRenderer.Render(values);
        Assert.Equal(1, rendering.ExitCode);
        Assert.Empty(rendering.Output);
        Assert.Contains((string)All[set]["message"]!, rendering.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void The_wrong_type_is_refused_at_every_value()
    {
        ConcurrentBag<string> wrong = [];
        Parallel.ForEach(ChartValues.Defaults, value =>
        {
            // Neither a list, a text, a number nor a truth value is an object without known keys, and no map is a text.
            JsonNode bad = value.Value is JsonObject ? JsonValue.Create("text") : new JsonObject { ["no"] = new JsonObject() };
            Rendering rendering = ChartRenderer.Render(ChartRenderer.Values((value.Key, bad)));
            if (rendering.ExitCode != 1 || !Names(rendering.Error, value.Key))
                wrong.Add($"{value.Key} = {bad.ToJsonString()}: {rendering.ExitCode} {rendering.Error}");
        });
        Assert.True(wrong.IsEmpty, string.Join("\n", wrong));
    }

    [Fact]
    public void An_unknown_key_is_refused_at_every_level()
    {
        string[] levels = ["", .. ChartValues.Defaults.Keys.SelectMany(Levels).Distinct()];
        Assert.True(levels.Length > 15, string.Join(' ', levels));
        ConcurrentBag<string> wrong = [];
        Parallel.ForEach(levels, level =>
        {
            Rendering rendering = ChartRenderer.Render(ChartRenderer.Values(($"{level}bogus", 1)));
            if (
                rendering.ExitCode != 1
                || !rendering.Error.Contains("'bogus' not allowed", StringComparison.Ordinal)
                || !Names(rendering.Error, level.TrimEnd('.'))
            )
                wrong.Add($"{level}bogus: {rendering.ExitCode} {rendering.Error}");
        });
        Assert.True(wrong.IsEmpty, string.Join("\n", wrong));
    }

    /// <summary>Helm names a value by its JSON pointer, and the values as a whole by an empty one.</summary>
    private static bool Names(string error, string path) =>
        error.Contains($"at '{(path.Length == 0 ? "" : "/")}{path.Replace('.', '/')}'", StringComparison.Ordinal);

    /// <summary>a.b.c is below "a." and "a.b.".</summary>
    private static IEnumerable<string> Levels(string path) =>
        Enumerable.Range(0, path.Length).Where(i => path[i] == '.').Select(i => path[..(i + 1)]);
}
