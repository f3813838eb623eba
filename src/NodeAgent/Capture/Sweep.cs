namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Hands out what is still protected, cluster by cluster, to the threads of the background copy.
/// </summary>
/// <remarks>
/// In order, except that it follows the guest: after a fault it goes on right behind the faulting place. A guest that writes through its
/// memory then finds the next pages free, and the whole copy speed is the guest's speed.
/// </remarks>
internal sealed class Sweep(GuestRam ram)
{
    private long _cursor;
    private long _hint = -1;

    /// <summary>The guest waited here: go on behind it.</summary>
    internal void Follow(long cluster) => Volatile.Write(ref _hint, cluster + 1);

    /// <summary>The next cluster in which something may be pending, or -1 when the whole of RAM has been gone through.</summary>
    internal long Next()
    {
        long hint = Interlocked.Exchange(ref _hint, -1);
        if (hint >= 0 && hint < ram.Clusters)
            Volatile.Write(ref _cursor, hint);
        for (long looked = 0; looked <= ram.Clusters; looked++)
        {
            long c = Interlocked.Increment(ref _cursor) - 1;
            if (c >= ram.Clusters)
            {
                // Another thread may wrap it as well; going over a stretch twice costs only looks.
                Volatile.Write(ref _cursor, 0);
                continue;
            }
            if (ram.HasPending(c))
                return c;
            if (ram.PendingGranules == 0)
                return -1;
        }
        return -1;
    }
}
