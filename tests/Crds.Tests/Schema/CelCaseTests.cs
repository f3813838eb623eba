using YamlDotNet.RepresentationModel;

namespace Bgsnap.Crds.Tests.Schema;

/// <summary>The golden cases are complete. What a real API server says of each is tested where there is one.</summary>
public sealed class CelCaseTests
{
    [Fact]
    public void Every_case_is_an_object_of_ours()
    {
        string[] kinds = [.. SchemaNode.Definitions.Select(d => d["spec"]!["names"]!["kind"]!.GetValue<string>())];
        Assert.All(CelCase.All(), c =>
        {
            Assert.NotEmpty(c.Objects);
            Assert.NotEmpty(c.Expect);
            foreach (YamlMappingNode o in c.Objects)
            {
                Assert.Equal("bgsnap.io/v1alpha1", Text(o, "apiVersion"));
                Assert.Contains(Text(o, "kind"), kinds);
                Assert.NotEmpty(Text((YamlMappingNode)o["metadata"], "name"));
            }
            Assert.Single(c.Objects.Select(o => Text((YamlMappingNode)o["metadata"], "name")).Distinct());
        });
    }

    [Fact]
    public void Every_rule_has_a_case_that_breaks_it()
    {
        List<CelCase> bad = [.. CelCase.All().Where(c => !c.IsGood)];
        Assert.All(SchemaNode.All.SelectMany(n => n.Rules.Select(r => (n.Path, r.Message))).Distinct(), rule =>
            Assert.True(
                bad.Any(c => rule.Message.Contains(c.Expect, StringComparison.Ordinal) && Kind(c) == rule.Path.Split('.')[0]),
                $"no case in Cel/ expects \"{rule.Message}\" of {rule.Path}"
            )
        );
    }

    [Fact]
    public void Every_case_names_one_rule_or_says_what_the_schema_says()
    {
        HashSet<string> messages = [.. SchemaNode.All.SelectMany(n => n.Rules).Select(r => r.Message)];
        string[] schema = ["Unsupported value", "Required value", "Invalid value", "Too long", "unknown field", "Duplicate value"];
        Assert.All(CelCase.All().Where(c => !c.IsGood), c =>
            Assert.True(
                messages.Count(m => m.Contains(c.Expect, StringComparison.Ordinal)) == 1
                    || schema.Any(s => c.Expect.Contains(s, StringComparison.Ordinal)),
                $"{c.Name}: \"{c.Expect}\" is the message of no rule, or of several"
            )
        );
    }

    [Fact]
    public void Every_kind_has_good_cases() =>
        Assert.Equal(SchemaNode.Definitions.Count(), CelCase.All().Where(c => c.IsGood).Select(Kind).Distinct().Count());

    private static string Kind(CelCase c) => Text(c.Objects[0], "kind");

    private static string Text(YamlMappingNode node, string key) => ((YamlScalarNode)node[key]).Value ?? "";
}
