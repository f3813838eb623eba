using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>Every value does what its comment says. Cases/values.yaml holds what.</summary>
public sealed class ValuesTests
{
    // Most cases change the default values: those are rendered once.
    private static readonly ConcurrentDictionary<string, Rendering> Unchanged = [];

    public static TheoryData<string> Cases => [.. ValueCase.All.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_value_changes_what_it_should(string title)
    {
        ValueCase value = ValueCase.All[title];
        Rendering before = Unchanged.GetOrAdd(value.With.ToJsonString(), _ => ChartRenderer.Render(value.With).Succeeded());
        Rendering after = ChartRenderer.Render(value.Values()).Succeeded();
        Assert.NotEqual(before.Output, after.Output);
        Assert.NotEmpty(value.Expectations);
        Assert.All(value.Expectations, expectation =>
        {
            Assert.True(expectation.HoldsIn(after), $"with {title} the output lacks: {expectation}");
            Assert.False(expectation.HoldsIn(before), $"the output has it without {title} too: {expectation}");
        });
    }

    [Fact]
    public void Every_value_has_a_case_that_is_not_its_default()
    {
        Assert.NotEmpty(ChartValues.Defaults);
        var tried = ValueCase
            .All.Values.Where(c => !JsonNode.DeepEquals(c.Set, ChartValues.Defaults.GetValueOrDefault(c.Value)))
            .Select(c => c.Value)
            .ToHashSet();
        Assert.Empty(ChartValues.Defaults.Keys.Except(tried));
        Assert.Empty(tried.Except(ChartValues.Defaults.Keys));
    }

    /// <summary>Values that are each good alone are good together: no key comes twice, everything parses.</summary>
    [Fact]
    public void All_values_at_once_render()
    {
        JsonObject all = [];
        foreach (ValueCase value in ValueCase.All.Values)
            Merge(all, value.With);
        foreach (
            ValueCase value in ValueCase.All.Values.Where(v =>
                v.Value is not "rbac.create" and not "networkPolicy.enabled" and not "metrics.auth"
            )
        )
            Pointer.Set(all, value.Value, value.Set);
        Rendering rendering = ChartRenderer.Render(all).Succeeded();
        Assert.True(rendering.Objects.Count > 10, string.Join(", ", rendering.Objects.Keys));
    }

    [Fact]
    public void A_label_of_the_user_never_replaces_what_the_chart_needs()
    {
        JsonNode? wrong = JsonNode.Parse("""{ "app.kubernetes.io/instance": "x", "app.kubernetes.io/component": "x" }""");
        Rendering rendering = ChartRenderer
            .Render(ChartRenderer.Values(("commonLabels", wrong), ("agent.podLabels", wrong), ("operator.podLabels", wrong)))
            .Succeeded();
        foreach (KubernetesObject workload in rendering.OfKind("Deployment", "DaemonSet"))
            Selectors.AssertSelectsItsPods(workload);
    }

    private static void Merge(JsonObject into, JsonObject from)
    {
        foreach ((string key, JsonNode? value) in from)
        {
            if (value is JsonObject inner && into[key] is JsonObject there)
                Merge(there, inner);
            else
                into[key] = value?.DeepClone();
        }
    }
}
