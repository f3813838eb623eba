namespace Bgsnap.Engine.Capture;

/// <summary>Hands out the clusters that are still protected, one by one, to the threads of the background copy.</summary>
/// <remarks>
/// The sweep goes in order, but it follows the guest: after a fault it continues right behind the faulting cluster. A guest that writes
/// through its memory then finds the next pages free, and runs at the full copy speed.
/// </remarks>
internal sealed class Sweep(GuestRam ram)
{
    private long _cursor;
    private long _hint = -1;

    /// <summary>Continues behind this cluster, where the guest waited.</summary>
    internal void Follow(long cluster) => Volatile.Write(ref _hint, cluster + 1);

    /// <summary>The next cluster that may have pending granules; -1 once all of RAM has been visited.</summary>
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
                // Another thread may wrap it as well; visiting a range twice only costs the check.
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
