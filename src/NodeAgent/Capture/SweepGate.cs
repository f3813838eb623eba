using System.Diagnostics;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Lets the threads of the background copy begin when the guest runs again, so that they take no time from its stop; and a moment after its
/// memory is protected at the latest, since nobody may wait for the file while its writers wait for an answer of QEMU's.
/// </summary>
internal sealed class SweepGate
{
    private const int SliceMilliseconds = 10,
        LatestMilliseconds = 50;
    private readonly FutexGate _changed = new();
    private long _protectedAt;
    private volatile bool _open;

    /// <summary>The guest's memory is protected.</summary>
    internal void Protected()
    {
        Volatile.Write(ref _protectedAt, Stopwatch.GetTimestamp());
        _changed.Open();
    }

    /// <summary>The guest runs again.</summary>
    internal void Open()
    {
        _open = true;
        _changed.Open();
    }

    /// <summary>Waits for the beginning, or the end of the capture.</summary>
    internal void Wait(CapturePipeline pipeline)
    {
        while (!pipeline.IsCancelled)
        {
            int sample = _changed.Sample();
            long at = Volatile.Read(ref _protectedAt);
            if (at != 0 && (_open || Stopwatch.GetElapsedTime(at).TotalMilliseconds >= LatestMilliseconds))
                return;
            _changed.Wait(sample, SliceMilliseconds);
        }
    }
}
