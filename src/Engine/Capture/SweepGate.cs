using System.Diagnostics;
using Bgsnap.Linux;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Starts the threads of the background copy when the guest runs again, so that they take no time from its stop. They start at the latest a
/// moment after its memory is protected, because nothing may wait for the file while its writers wait for an answer from QEMU.
/// </summary>
internal sealed class SweepGate
{
    private const int SliceMilliseconds = 10,
        LatestMilliseconds = 50;
    private readonly FutexGate _changed = new();
    private long _protectedAt;
    private volatile bool _open;

    /// <summary>Records that the guest's memory is protected.</summary>
    internal void Protected()
    {
        Volatile.Write(ref _protectedAt, Stopwatch.GetTimestamp());
        _changed.Open();
    }

    /// <summary>Opens the gate: the guest runs again.</summary>
    internal void Open()
    {
        _open = true;
        _changed.Open();
    }

    /// <summary>Waits for the gate to open, or for the end of the capture.</summary>
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
