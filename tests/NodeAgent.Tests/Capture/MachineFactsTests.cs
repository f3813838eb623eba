using Bgsnap.NodeAgent.Capture;

namespace Bgsnap.NodeAgent.Tests.Capture;

/// <summary>A difference between two looks at the machine is named.</summary>
public sealed class MachineFactsTests
{
    [Theory]
    [InlineData("dimm1=pc-dimm,vda=virtio-blk", "dimm1 was added")]
    [InlineData("", "vda was removed")]
    [InlineData("vda=scsi-hd", "vda changed from 'virtio-blk' to 'scsi-hd'")]
    [InlineData("vda=virtio-blk", null)]
    public void The_first_difference_is_named(string now, string? difference) =>
        Assert.Equal(difference, MachineFacts.DifferenceOf(Parse("vda=virtio-blk"), Parse(now)));

    private static Dictionary<string, string> Parse(string text) =>
        text.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(p => p.Split('=')).ToDictionary(p => p[0], p => p[1]);
}
