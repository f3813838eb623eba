using Bgsnap.Crds.Tests.Schema;
using Bgsnap.E2E.Tests.Harness;
using YamlDotNet.RepresentationModel;

namespace Bgsnap.E2E.Tests;

/// <summary>The golden cases of tests/Crds.Tests/Cel, evaluated by the API server of Kubernetes 1.36.</summary>
[Collection(nameof(RealCluster))]
public sealed class CelTests(ClusterFixture cluster, LabOfClass shared) : IClassFixture<LabOfClass>
{
    public static TheoryData<string> Cases => [.. CelCase.All().Select(c => c.Name)];

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task The_API_server_says_of_each_case_what_it_expects(string name)
    {
        cluster.Need();
        CelCase cel = CelCase.All().Single(c => c.Name == name);
        foreach (YamlMappingNode earlier in cel.Objects.SkipLast(1))
            (await ApplyAsync(earlier)).Ok();

        CommandResult answer = await ApplyAsync(cel.Objects[^1]);

        if (cel.IsGood)
        {
            answer.Ok();
            return;
        }
        Assert.True(answer.ExitCode != 0, $"it was taken: {answer}");
        Assert.Contains(cel.Expect, answer.Error, StringComparison.Ordinal);
    }

    // Without the client's own validation, which would reject the object first.
    private Task<CommandResult> ApplyAsync(YamlMappingNode item)
    {
        ((YamlMappingNode)item["metadata"]).Children["namespace"] = shared.Lab.Name;
        StringWriter text = new();
        new YamlStream(new YamlDocument(item)).Save(text, assignAnchors: false);
        return cluster.Kubectl.TryAsync(text.ToString(), "apply", "--validate=false", "-f", "-");
    }
}
