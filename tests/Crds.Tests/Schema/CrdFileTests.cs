using Bgsnap.Manifests;

namespace Bgsnap.Crds.Tests.Schema;

public sealed class CrdFileTests
{
    [Theory]
    [InlineData("config/crd")]
    [InlineData("charts/bgsnap/crds")]
    public void The_files_are_what_the_types_say(string where)
    {
        string folder = Repository.Path(where);
        var files = CrdYaml.Files().ToList();
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
}
