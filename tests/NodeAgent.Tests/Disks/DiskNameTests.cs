using Bgsnap.Engine.Disks;
using Bgsnap.NodeAgent.Tests.Qmp;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.NodeAgent.Tests.Disks;

public class DiskNameTests
{
    [Theory]
    [InlineData("drive0", "/machine/peripheral/vda/virtio-backend", "node0", "drive0")]
    [InlineData("", "/machine/peripheral/vda/virtio-backend", "node0", "vda")]
    [InlineData("", "scsi0-0-0-1", "node0", "scsi0-0-0-1")]
    [InlineData("", "/machine/peripheral-anon/device[1]/virtio-backend", "libvirt-1-storage", "libvirt-1-storage")]
    [InlineData(null, null, "#block117", "_block117")]
    [InlineData("", "", "", "disk")]
    [InlineData("a b/../c", null, null, "a_b_.._c")]
    [InlineData("..", null, null, "_.")]
    [InlineData("ütf", null, null, "_tf")]
    public void A_disk_is_called_as_its_owner_called_it(string? drive, string? qdev, string? node, string expected) =>
        Assert.Equal(expected, DiskName.Of(drive, qdev, node));

    [Fact]
    public void Names_are_unique_short_and_in_order()
    {
        QmpValue answer = QmpValueTests.Of(
            $$$"""
            [{"device":"a:b","inserted":{"node-name":"n0"}},
             {"device":"a_b","qdev":"x"},
             {"device":"","qdev":"/machine/peripheral/cd/virtio-backend"},
             {"device":"","qdev":"/machine/unattached/device[7]","inserted":{"node-name":"a_b"}},
             {"device":"{{{new string('x', 5000)}}}"}]
            """
        );
        Assert.Equal(["a_b", "a_b_2", "cd", "a_b_3", new string('x', 128)], DiskName.OfAll(answer).Select(d => d.Name));
    }
}
