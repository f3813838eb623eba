using Bgsnap.Manifests;

namespace Bgsnap.Crds.Tests.Schema;

public sealed class CrdFileTests
{
    [Fact]
    public void Config_crd_is_what_the_types_say()
    {
        string folder = Repository.Path("config", "crd");
        var files = CrdYaml.Files().ToList();
        foreach ((string name, string text) in files)
            Assert.True(text == File.ReadAllText(Path.Combine(folder, name)), $"config/crd/{name} differs from src/Crds/V1Alpha1: run `make manifests`");
        Assert.Equal(
            files.Select(f => f.FileName).Order(),
            Directory.GetFiles(folder, "bgsnap.io_*.yaml").Select(f => Path.GetFileName(f)!).Order());
    }

    [Fact]
    public void The_chart_has_the_same()
    {
        string folder = Repository.Path("charts", "bgsnap", "crds");
        if (!Directory.Exists(folder)) return; // there is no chart yet
        foreach ((string name, string text) in CrdYaml.Files())
            Assert.True(text == File.ReadAllText(Path.Combine(folder, name)), $"charts/bgsnap/crds/{name} differs from src/Crds/V1Alpha1: run `make manifests`");
    }
}
