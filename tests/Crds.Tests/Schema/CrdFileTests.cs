using Bgsnap.Manifests;

namespace Bgsnap.Crds.Tests.Schema;

public sealed class CrdFileTests
{
    [Theory]
    [InlineData("config/crd", false)]
    [InlineData("charts/bgsnap/crds", false)]
    [InlineData("config/legacy/crd", true)]
    public void The_files_are_what_the_types_say(string where, bool forLegacy)
    {
        string folder = Repository.Path(where);
        var files = CrdYaml.Files(forLegacy).ToList();
        foreach ((string name, string text) in files)
            Assert.True(
                text == File.ReadAllText(Path.Combine(folder, name)),
                $"{where}/{name} differs from src/Crds/V1Alpha1: run `make manifests`"
            );
        Assert.Equal(
            files.Select(f => f.FileName).Order(),
            Directory.GetFiles(folder, "bgsnap.io_*.yaml").Select(f => Path.GetFileName(f)!).Order()
        );
    }

    [Fact]
    public void Those_for_1_20_have_neither_rules_nor_empty_defaults()
    {
        foreach ((string name, string text) in CrdYaml.Files(forLegacy: true))
        {
            Assert.DoesNotContain("x-kubernetes-validations", text, StringComparison.Ordinal);
            Assert.DoesNotMatch("""(?m)^ *default: ""$""", text);
            Assert.Contains("openAPIV3Schema", text, StringComparison.Ordinal);
            Assert.Equal(CrdYaml.Files().Single(f => f.FileName == name).Text.Split('\n')[0], text.Split('\n')[0]);
        }
    }
}
