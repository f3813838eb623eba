using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>One thread of the background copy: claims clusters, copies and releases them, and encodes what has been copied.</summary>
/// <remarks>
/// It waits only while it holds nothing: when the bandwidth limit delays it, it has neither a claim nor a buffer, and it continues to
/// encode what other threads have copied. A guest that waits for a buffer never waits for the limit.
/// </remarks>
internal sealed class SweepWorker(
    CapturePipeline pipeline,
    GuestRam ram,
    Sweep sweep,
    Release release,
    BandwidthLimit limit,
    Encoder encoder,
    SweepGate? begin = null,
    GuestWatch.Heartbeat? claims = null
)
{
    private const int WaitMilliseconds = 20;
    private long _mayCopyAt;

    internal void Run()
    {
        begin?.Wait(pipeline);
        // Uncompressed data is encoded at once, while it is in the cache. Compression comes after copying as long as there is a free
        // buffer, because a copied page no longer slows the guest.
        while (!pipeline.IsCancelled)
        {
            if (encoder.IsCheap && EncodeOne())
                continue;
            if (ram.PendingGranules == 0)
                break;
            int heldBack = BandwidthLimit.MillisecondsUntil(_mayCopyAt);
            if (heldBack > 0)
            {
                if (!EncodeOne())
                    pipeline.Copied.WaitChanged(Math.Min(heldBack, WaitMilliseconds));
                continue;
            }
            int buffer = pipeline.Stage.TryTake(forFault: false);
            if (buffer < 0)
            {
                if (!EncodeOne())
                    pipeline.Stage.WaitFreed(WaitMilliseconds);
                continue;
            }
            long cluster = sweep.Next();
            if (cluster < 0)
            {
                pipeline.Stage.Return(buffer);
                // Other threads have the rest; stay to encode their buffers.
                if (!EncodeOne())
                    pipeline.Copied.WaitChanged(1);
                continue;
            }
            Copy(cluster, buffer);
        }
        while (!pipeline.IsCancelled && pipeline.Copied.Take() is >= 0 and int left)
            encoder.Encode(left);
        encoder.Flush();
    }

    private void Copy(long cluster, int number)
    {
        Stage.Buffer buffer = pipeline.Stage[number];
        GuestRam.Block block = ram.BlockOfCluster(cluster);
        long first = cluster * GuestRam.GranulesPerCluster;
        int count = GuestRam.GranulesIn(block, cluster);
        // A vCPU that writes to what is claimed waits for this thread.
        claims?.Touch();
        if (ram.Kind(cluster) == ClusterKind.Huge)
        {
            if (ram.TryClaim(first))
                release.CopyAndUnprotect(block, first, count, buffer);
        }
        else
        {
            for (int i = 0; i < count; i++)
            {
                int run = 0;
                while (i + run < count && ram.TryClaim(first + i + run))
                    run++;
                if (run > 0)
                    release.CopyAndUnprotect(block, first + i, run, buffer);
                i += run;
            }
        }
        claims?.Rest();
        if (buffer.Count == 0)
        {
            pipeline.Stage.Return(number);
            return;
        }
        _mayCopyAt = limit.Account((long)buffer.Count * GuestRam.GranuleSize);
        if (encoder.IsCheap)
            encoder.Encode(number);
        else
            pipeline.Copied.Add(number);
    }

    private bool EncodeOne()
    {
        int copied = pipeline.Copied.TryTake();
        if (copied < 0)
            return false;
        encoder.Encode(copied);
        return true;
    }
}
