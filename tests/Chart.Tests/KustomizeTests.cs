using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>config/ installs the same objects as the chart.</summary>
public sealed class KustomizeTests
{
    [Fact]
    public void The_default_is_the_chart_with_its_default_values()
    {
        Rendering chart = ChartRenderer.Render(ChartRenderer.Values(("namespace.create", true))).Succeeded();
        Same.Objects([.. chart.Objects.Values], Kustomization.Build(Repository.PathOf("config/default")));
    }

    [Fact]
    public void For_1_20_it_is_what_the_chart_makes_there()
    {
        Rendering chart = ChartRenderer.Render(ChartRenderer.Values(("namespace.create", true)), "--kube-version", "1.20.2").Succeeded();
        List<KubernetesObject> legacy = Kustomization.Build(Repository.PathOf("config/legacy"));
        Same.Objects([.. chart.Objects.Values], legacy);
        Assert.DoesNotContain(legacy, o => o.Kind == "PodDisruptionBudget");
    }

    [SkippableFact]
    public void Kubectl_builds_the_default()
    {
        Requirements.NeedDefinitions();
        Rendering chart = ChartRenderer.Render(ChartRenderer.Values(("namespace.create", true))).Succeeded();
        Same.Objects([.. chart.Objects.Values], Kubectl("config/default"));
    }

    [SkippableFact]
    public void With_metrics_it_is_the_chart_with_metrics()
    {
        Requirements.NeedDefinitions();
        Rendering chart = ChartRenderer.Render(ChartRenderer.Values(("namespace.create", true), ("metrics.enabled", true))).Succeeded();
        Same.Objects([.. chart.Objects.Values], Kubectl("config/metrics"));
    }

    [SkippableFact]
    public void The_definitions_are_in_the_kustomization_and_in_the_chart()
    {
        string[] files = Requirements.NeedDefinitions();
        Assert.Equal(
            [
                "bgsnap.io_snapshottasks.yaml",
                "bgsnap.io_vmbackgroundrestores.yaml",
                "bgsnap.io_vmbackgroundsnapshots.yaml",
                "bgsnap.io_vmbackgroundsnapshotschedules.yaml",
            ],
            files.Select(Path.GetFileName)
        );
        foreach (string file in files)
            Assert.Equal(File.ReadAllText(file), Repository.Read($"charts/bgsnap/crds/{Path.GetFileName(file)}"));
        Rendering chart = ChartRenderer.Render(null, "--include-crds").Succeeded();
        Assert.Equal(files.Length, chart.OfKind("CustomResourceDefinition").Count());
        Assert.StartsWith("---\n# Source: bgsnap/crds/", chart.Output, StringComparison.Ordinal);
    }

    private static List<KubernetesObject> Kubectl(string directory)
    {
        Requirements.NeedKustomize();
        Rendering built = Programs.Run("kubectl", "kustomize", Repository.PathOf(directory));
        Assert.True(built.ExitCode == 0, built.Error);
        Assert.DoesNotContain("deprecated", built.Error, StringComparison.Ordinal);
        List<KubernetesObject> objects = KubernetesObject.Parse(built.Output);
        Assert.Equal(Requirements.NeedDefinitions().Length, objects.RemoveAll(o => o.Kind == "CustomResourceDefinition"));
        return objects;
    }
}
