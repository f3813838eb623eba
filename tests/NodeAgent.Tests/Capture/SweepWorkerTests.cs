using Bgsnap.Engine.Capture;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Store;
using CaptureEncoder = Bgsnap.Engine.Capture.Encoder;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class SweepWorkerTests
{
    /// <summary>
    /// The limit lets the sweep copy one cluster in weeks. It must encode what the fault path has copied all the same: otherwise a guest
    /// that writes would wait for a buffer, and so for the limit.
    /// </summary>
    [Fact]
    public unsafe void Held_back_by_the_limit_it_still_encodes_what_others_copied()
    {
        using TempDirectory temp = new();
        MemoryOfTests memory = new();
        using GuestRam ram = MemoryOfTests.OneBlock(4);
        for (long c = 0; c < ram.Clusters; c++)
            ram.SetKind(c, ClusterKind.Small);
        ram.BeginWindow();
        RamBlockLayout[] layout = [new("pc.ram", 4 * GuestRam.ClusterSize, 4096)];
        using GranuleIndex index = new(layout);
        using GranuleLedger ledger = new(index.Count);
        using PageLogWriter log = PageLogWriter.Create(temp.Sub("memory"), layout, PageCompression.None, Guid.NewGuid());
        using CapturePipeline pipeline = new(64 << 20, PageCompression.None, workers: 1);
        CaptureProgress progress = new();
        using CaptureEncoder encoder = new(pipeline, PageCompression.None, index, ledger, log, null);
        SweepWorker worker = new(
            pipeline,
            ram,
            new Sweep(ram),
            new Release(pipeline, ram, memory, ledger, progress),
            new BandwidthLimit(1),
            encoder
        );

        Thread thread = pipeline.Start("sweep", worker.Run);
        try
        {
            Assert.True(SpinWait.SpinUntil(() => ram.PendingGranules == 3 * GuestRam.GranulesPerCluster, TimeSpan.FromSeconds(30)));
            for (long fault = 96; fault < 98; fault++)
            {
                Assert.True(ram.TryClaim(fault));
                int number = pipeline.Stage.TryTake(forFault: true);
                ledger.NoteCopied(fault, 1);
                _ = pipeline.Stage[number].Add(fault, GuestRam.GranuleSize);
                pipeline.Copied.Add(number);
                Assert.True(
                    SpinWait.SpinUntil(() => pipeline.Copied.Count == 0, TimeSpan.FromSeconds(30)),
                    "the buffer waits for the limit"
                );
            }
        }
        finally
        {
            pipeline.Cancel();
            thread.Join();
        }
        Assert.Null(pipeline.Failure);
        Assert.Equal(3 * GuestRam.GranulesPerCluster, ram.PendingGranules);
    }
}
