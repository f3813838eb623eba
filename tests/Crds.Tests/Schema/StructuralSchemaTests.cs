using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Bgsnap.Crds.Tests.Schema;

/// <summary>What a structural schema must be (Kubernetes, "Specifying a structural schema"), and what we ask of ours beyond it.</summary>
public sealed partial class StructuralSchemaTests
{
    private static readonly string[] Forbidden = ["$ref", "$schema", "definitions", "anyOf", "oneOf", "allOf", "not", "nullable", "const"];
    private static readonly string[] Types = ["object", "array", "string", "integer", "boolean"];

    [Fact]
    public void Every_node_has_one_type() => Assert.All(SchemaNode.All, n => Assert.Contains(n.Type, Types));

    [Fact]
    public void There_is_nothing_that_a_structural_schema_forbids() =>
        Assert.All(SchemaNode.All, n => Assert.Empty(n.Json.Select(p => p.Key).Intersect(Forbidden)));

    // A map says what its values are; it has no fields beside, and is not a mere "anything goes" or "nothing else".
    [Fact]
    public void Every_map_says_what_is_in_it() => Assert.All(SchemaNode.All.Where(n => n.Json.ContainsKey("additionalProperties")), n =>
        {
            Assert.Equal("string", n.Json["additionalProperties"]!["type"]!.GetValue<string>());
            Assert.False(n.Json.ContainsKey("properties"));
        });

    [Fact]
    public void Every_list_says_what_is_in_it() =>
        Assert.All(SchemaNode.All.Where(n => n.Type == "array"), n => Assert.NotNull(n.Json["items"]));

    [Fact]
    public void Every_field_is_described() =>
        // The metadata's description is the API server's own.
        Assert.All(
            SchemaNode.All.Where(n =>
                !n.Path.EndsWith("[]", StringComparison.Ordinal) && !n.Path.EndsWith(".metadata", StringComparison.Ordinal)
            ),
            n => Assert.True(n.Json["description"]?.GetValue<string>().Length > 5, $"{n.Path} has no description")
        );

    [Fact]
    public void What_is_required_exists() => Assert.All(SchemaNode.All, n =>
        {
            foreach (JsonNode? name in n.Json["required"] as JsonArray ?? [])
                Assert.True(n.Json["properties"]?[name!.GetValue<string>()] is not null, $"{n.Path} requires {name}");
        });

    [Fact]
    public void Defaults_are_allowed_values() =>
        Assert.All(SchemaNode.All.Where(n => n.Json.ContainsKey("default") && n.Json.ContainsKey("enum")), n =>
            Assert.Contains(n.Json["default"]!.GetValue<string>(), ((JsonArray)n.Json["enum"]!).Select(v => v!.GetValue<string>()))
        );

    // The API server estimates what a rule costs by the longest value, and refuses a definition whose rules may cost too much.
    [Fact]
    public void What_a_rule_reads_is_bounded()
    {
        List<SchemaNode> ruled = [.. SchemaNode.All.Where(n => n.Rules.Any() && n.Path.Contains('.', StringComparison.Ordinal))];
        Assert.NotEmpty(ruled);
        Assert.All(ruled, n =>
        {
            foreach (SchemaNode below in n.WithAllBelow())
            {
                if (below.Type == "string")
                    Assert.True(
                        below.Json.ContainsKey("maxLength") || below.Json.ContainsKey("enum"),
                        $"{below.Path} has no maxLength, and a rule reads it"
                    );
                if (below.Json.ContainsKey("additionalProperties"))
                    Assert.True(below.Json.ContainsKey("maxProperties"), $"{below.Path} has no maxProperties, and a rule reads it");
                if (below.Type == "array")
                    Assert.True(below.Json.ContainsKey("maxItems"), $"{below.Path} has no maxItems, and a rule reads it");
            }
        });
    }

    [Fact]
    public void Messages_begin_with_the_field_they_are_about() =>
        Assert.All(SchemaNode.All.SelectMany(n => n.Rules), r =>
            Assert.Matches("^(spec|metadata)[a-zA-Z.]*(: | cannot be changed)", r.Message)
        );

    [Fact]
    public void Printer_columns_show_fields_that_exist()
    {
        foreach (JsonObject definition in SchemaNode.Definitions)
        {
            HashSet<string> paths =
            [
                .. SchemaNode.RootOf(definition).WithAllBelow().Select(n => AfterKind(n.Path)),
                ".metadata.creationTimestamp",
            ];
            foreach (JsonNode? column in (JsonArray)definition["spec"]!["versions"]![0]!["additionalPrinterColumns"]!)
                Assert.Contains(Filter().Replace(column!["jsonPath"]!.GetValue<string>(), "[]"), paths);
        }
    }

    private static string AfterKind(string path) =>
        path.Contains('.', StringComparison.Ordinal) ? path[path.IndexOf('.', StringComparison.Ordinal)..] : "";

    [GeneratedRegex(@"\[\?\([^)]*\)\]")]
    private static partial Regex Filter();
}
