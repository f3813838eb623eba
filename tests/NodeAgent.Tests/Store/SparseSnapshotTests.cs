using System.Diagnostics;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

/// <summary>Tests that measure the memory of the whole process: they run alone.</summary>
[CollectionDefinition(nameof(MeasuresThisProcess), DisableParallelization = true)]
public sealed class MeasuresThisProcess;

/// <summary>What a snapshot merely claims to contain costs no memory; only its actual content does.</summary>
[Collection(nameof(MeasuresThisProcess))]
public sealed class SparseSnapshotTests : IDisposable
{
    private readonly TempDirectory _temp = new();

    public void Dispose() => _temp.Dispose();

    [Fact]
    public void A_sparse_file_as_long_as_its_lies_takes_no_memory()
    {
        // 1 TiB of RAM that does not exist: all numbers in header, index (a hole of 256 MiB) and footer are consistent.
        RamBlockLayout[] blocks = [new("pc.ram", 1UL << 40, 4096)];
        string path = _temp.Sub("sparse");
        using (PageLogWriter writer = PageLogWriter.Create(path, blocks, PageCompression.None, Guid.NewGuid()))
        using (var index = new GranuleIndex(blocks))
        using (var ledger = new GranuleLedger(index.Count))
            writer.Finish(index, ledger, copied: 0);
        long before = WorkingSet();
        using PageLogReader log = PageLogReader.Open(path);
        Assert.True(log.Entry(0, log.GranuleCount(0) - 1).IsZero);
        Assert.InRange(WorkingSet() - before, long.MinValue, 64 << 20);
    }

    private static long WorkingSet()
    {
        using Process self = Process.GetCurrentProcess();
        return self.WorkingSet64;
    }
}
