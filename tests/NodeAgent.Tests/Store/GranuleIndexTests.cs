using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

public sealed class GranuleIndexTests
{
    [Fact]
    public void What_was_set_is_found_behind_and_between_stretches_that_were_not()
    {
        using GranuleIndex index = new([new RamBlockLayout("ram", 3UL << 36, 4096)]); // more than one search step covers
        long last = index.Count - 1;
        foreach (long granule in (long[])[5, 6, 1 << 20, last])
            index.Set(granule, new GranuleEntry(0, 1));

        Assert.Equal(5, index.NextSet(0, index.Count));
        Assert.Equal(5, index.NextSet(5, index.Count));
        Assert.Equal(6, index.NextSet(6, index.Count));
        Assert.Equal(1 << 20, index.NextSet(7, index.Count));
        Assert.Equal(last, index.NextSet((1 << 20) + 1, index.Count));
        Assert.Equal(last, index.NextSet(7 + (1 << 20), last));
        Assert.Equal(index.Count, index.NextSet(index.Count, index.Count));
        Assert.Throws<ArgumentOutOfRangeException>(() => index.NextSet(0, index.Count + 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => index.NextSet(7, 6));
    }
}
