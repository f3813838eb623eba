using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>Skips a test where something is missing. Where BGSNAP_REQUIRE_ALL is set (as in CI) it fails instead.</summary>
public static class Requirements
{
    /// <summary>The custom resource definitions, which `make manifests` makes.</summary>
    public static string[] NeedDefinitions()
    {
        string[] files = [.. Directory.GetFiles(Repository.PathOf("config/crd"), "bgsnap.io_*.yaml").Order(StringComparer.Ordinal)];
        Need(files.Length > 0, "config/crd lacks the custom resource definitions: make manifests");
        return files;
    }

    /// <summary>A kubectl whose kustomize takes directories for resources: that of 1.20 does not.</summary>
    public static void NeedKustomize()
    {
        Need(Programs.IsOnPath("kubectl"), "there is no kubectl");
        Rendering version = Programs.Run("kubectl", "version", "--client", "--output", "json");
        int minor = int.Parse(
            ((string)JsonNode.Parse(version.Output)!["clientVersion"]!["minor"]!).TrimEnd('+'),
            System.Globalization.CultureInfo.InvariantCulture
        );
        Skip.If(minor < 21, $"kubectl 1.{minor} has a kustomize that takes no directories; 1.21 is needed");
    }

    private static void Need(bool there, string otherwise)
    {
        if (there)
            return;
        Assert.True(Environment.GetEnvironmentVariable("BGSNAP_REQUIRE_ALL") is null or "", otherwise);
        Skip.If(true, otherwise);
    }
}
