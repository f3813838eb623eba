using Bgsnap.Engine.Restore;
using Bgsnap.NodeAgent.Tests.Qmp;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Restore;

public class MediaCheckTests
{
    private const string Full = """[{"device": "cd0", "removable": true, "inserted": {"node-name": "#block1"}}]""";
    private const string Empty = """[{"device": "cd0", "removable": true}]""";
    private const string Other =
        """[{"device": "", "qdev": "/machine/peripheral-anon/device[0]", "removable": true, "inserted": {"node-name": "#block12"}}, {"device": "vda", "removable": false, "inserted": {"node-name": "x"}}]""";

    [Theory]
    [InlineData("cd0", Full, null)]
    [InlineData("cd0", Empty, "drive cd0 has no medium; the captured machine had /media/install.iso in it")]
    [InlineData("_block7", Other, null)] // without an id it is called by its node, which is another in each QEMU
    [InlineData("_block7", "[]", "drive _block7 has no medium; the captured machine had /media/install.iso in it")]
    public void A_drive_without_its_medium_is_named(string name, string there, string? difference)
    {
        ManifestDisk cd = new()
        {
            Name = name,
            Removable = true,
            ReadOnly = true,
            NodeName = "n",
            Image = new ManifestImage { Driver = "raw", Filename = "/media/install.iso" },
        };
        Assert.Equal(difference is null ? [] : [difference], MediaCheck.Missing([cd], QmpValueTests.Of(there)));
    }
}
