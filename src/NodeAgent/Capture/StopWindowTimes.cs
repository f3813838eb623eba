using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>Where the time of a stop window goes: notes when the agent sees each of its steps end.</summary>
/// <remarks>
/// <code>
///   STOP      stop answered    cuts answered     pipe readable   protected   held    devices answered     RESUME
///    │ stop ───────┤ disks ──────────┤ devices ────────┤ protect ────┤ disks ──┤ devices ───┤ cont ────────┤
/// </code>
/// STOP and RESUME are QEMU's own times, the others the agent's on the same clock. What QEMU does before the agent has come to read
/// counts for the step before: answers that arrive together end their steps together. Without disks stopping and saving are one command,
/// and all of it is devices'.
/// </remarks>
internal sealed class StopWindowTimes
{
    private long _stopAnswered,
        _cutsAnswered,
        _savedAt;

    /// <summary>The first of the device state came.</summary>
    internal long DataAt { private get; set; }

    /// <summary>RAM was protected.</summary>
    internal long ProtectedAt { get; set; }

    /// <summary>The storage has cut the disks; 0: it was not waited for.</summary>
    internal long HeldAt { get; set; }

    /// <summary>QEMU has answered this many of the window's commands.</summary>
    /// <param name="count">How many.</param>
    /// <param name="stop">The number of <c>stop</c>; -1: the save stops the guest by itself.</param>
    /// <param name="save">The number of the one that saves the devices.</param>
    internal void Answered(int count, int stop, int save)
    {
        if (stop >= 0 && count > stop)
            Note(ref _stopAnswered);
        if (stop >= 0 && count >= save)
            Note(ref _cutsAnswered);
        if (count > save)
            Note(ref _savedAt);
    }

    /// <summary>The parts; their sum is the whole.</summary>
    /// <param name="stopped">QEMU's STOP.</param>
    /// <param name="resumed">QEMU's RESUME.</param>
    /// <returns>Null where the guest did not run before.</returns>
    internal ManifestStopWindow? Between(long stopped, long resumed)
    {
        if (stopped == 0 || resumed < stopped)
            return null;
        long at = stopped;
        // What comes before the device state had happened when that came.
        long stop = Until(Math.Min(_stopAnswered, DataAt)),
            disks = Until(Math.Min(_cutsAnswered, DataAt)),
            devices = Until(DataAt),
            protect = Until(ProtectedAt);
        disks += Until(HeldAt);
        devices += Until(_savedAt);
        return new ManifestStopWindow(stop, disks, devices, protect, resumed - at);

        long Until(long end)
        {
            (long begin, at) = (at, Math.Clamp(end, at, resumed));
            return at - begin;
        }
    }

    private static void Note(ref long at)
    {
        if (at == 0)
            at = Clock.NowMicroseconds();
    }
}
