using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>A real API server accepts the manifests that the documentation names; the dry run changes nothing.</summary>
[Collection(nameof(RealCluster))]
public sealed class ManifestsTests(ClusterFixture cluster)
{
    public static TheoryData<string> Examples =>
        [.. Directory.GetFiles(Path.Join(Repository.Root, "docs", "examples"), "*.yaml").Select(f => Path.GetFileName(f)!).Order()];

    [SkippableTheory]
    [MemberData(nameof(Examples))]
    public async Task Every_example_is_accepted(string name)
    {
        cluster.Need();
        string answer = await cluster.Kubectl.RunAsync([
            "apply",
            "--dry-run=server",
            "-n",
            "default",
            "-f",
            Path.Join(Repository.Root, "docs", "examples", name),
        ]);
        Assert.Contains("(server dry run)", answer, StringComparison.Ordinal);
    }

    /// <summary>The cluster's own API server is 1.20: its kubectl and itself know no CEL rules.</summary>
    [SkippableFact]
    public async Task The_definitions_for_1_20_are_accepted_and_those_for_newer_ones_are_not()
    {
        cluster.Need();
        string answer = await cluster.Kubectl.RunAsync("apply", "--dry-run=server", "-k", Path.Join(Repository.Root, "config", "legacy"));
        Assert.Equal(4, answer.Split('\n').Count(l => l.StartsWith("customresourcedefinition", StringComparison.Ordinal)));
        CommandResult newer = await cluster.Kubectl.TryAsync(
            null,
            "apply",
            "--dry-run=server",
            "-k",
            Path.Join(Repository.Root, "config", "crd")
        );
        Assert.NotEqual(0, newer.ExitCode);
    }
}
