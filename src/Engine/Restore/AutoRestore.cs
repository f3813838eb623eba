using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore.Instant;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// Chooses the best method that works: instant if the snapshot's volume is fast enough to serve a guest's faults, else eager, else stream.
/// </summary>
internal sealed class AutoRestore(RestoreOptions options) : IMemoryRestore
{
    /// <summary>If 64 KiB regularly take longer than this, a guest that starts late is better off than one that runs slowly.</summary>
    internal static readonly TimeSpan SlowestRead = TimeSpan.FromMilliseconds(10);
    private const int Reads = 16;
    private static readonly TimeSpan LongestProbe = TimeSpan.FromMilliseconds(300);

    /// <inheritdoc/>
    public string Method { get; private set; } = "auto";

    /// <inheritdoc/>
    public void Run(RestoreTarget target, SnapshotStream snapshot, RestoreProgress progress, Action guestRuns, CancellationToken cancel)
    {
        string? against = null;
        TimeSpan read = MedianRead(snapshot.Log);
        if (read <= SlowestRead)
        {
            if (Try(new InstantRestore(options), $"the volume reads 64 KiB in {Format(read)}"))
                return;
        }
        else
        {
            against = $"not instant: the volume takes {Format(read)} for 64 KiB, more than {Format(SlowestRead)}";
        }
        if (Try(new EagerRestore(), against!))
            return;
        _ = Try(new StreamRestore(), against!);

        bool Try(IMemoryRestore way, string why)
        {
            (Method, progress.MethodReason) = (way.Method, why);
            try
            {
                way.Run(target, snapshot, progress, guestRuns, cancel);
                return true;
            }
            catch (EngineUnavailableException e) when (!progress.GuestRuns)
            {
                against = $"{(against is null ? "" : against + "; ")}not {way.Method}: {e.Message}";
                return false;
            }
        }
    }

    private static string Format(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalMilliseconds:0.##} ms");

    /// <summary>Median time to read a granule, over a few granules that lie far apart, as the guest's faults will.</summary>
    internal static unsafe TimeSpan MedianRead(PageLogReader log)
    {
        int block = Enumerable.Range(0, log.Blocks.Count).MaxBy(i => log.Blocks[i].UsedLength);
        long count = log.GranuleCount(block);
        List<TimeSpan> times = [];
        byte* buffer = (byte*)NativeMemory.AlignedAlloc(FormatV1.GranuleSize, 4096);
        using GranuleDecoder decoder = new();
        try
        {
            long began = Stopwatch.GetTimestamp();
            for (int i = 0; i < Reads && Stopwatch.GetElapsedTime(began) < LongestProbe; i++)
            {
                long g = NextData(log, block, count * i / Reads, count);
                if (g < 0)
                    continue;
                long at = Stopwatch.GetTimestamp();
                log.ReadGranule(block, g, buffer, decoder);
                times.Add(Stopwatch.GetElapsedTime(at));
            }
        }
        finally
        {
            NativeMemory.AlignedFree(buffer);
        }
        times.Sort();
        return times.Count == 0 ? TimeSpan.Zero : times[times.Count / 2];
    }

    private static long NextData(PageLogReader log, int block, long from, long count)
    {
        for (long g = from; g < count; g++)
        {
            if (log.PageBitmap(block, g) != 0)
                return g;
        }
        return -1;
    }
}
