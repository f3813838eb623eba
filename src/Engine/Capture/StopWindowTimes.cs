using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>Where the time of a stop window goes: records when the agent sees each step end.</summary>
/// <remarks>
/// <code>
///   STOP      stop answered    cuts answered     pipe readable   protected   held    devices answered     RESUME
///    │ stop ───────┤ disks ──────────┤ devices ────────┤ protect ────┤ disks ──┤ devices ───┤ cont ────────┤
/// </code>
/// STOP and RESUME are QEMU's own times; the others are the agent's, on the same clock. What QEMU does before the agent reads the answer
/// counts for the earlier step: answers that arrive together end their steps together. Without disks, stopping and saving are one command,
/// and all its time counts for devices.
/// </remarks>
internal sealed class StopWindowTimes
{
    private long _stopAnswered,
        _cutsAnswered,
        _savedAt;

    /// <summary>When the first bytes of the device state arrived.</summary>
    internal long DataAt { private get; set; }

    /// <summary>When RAM was protected.</summary>
    internal long ProtectedAt { get; set; }

    /// <summary>When the storage had cut the disks; 0 if the window did not wait for it.</summary>
    internal long HeldAt { get; set; }

    /// <summary>Records that QEMU has answered this many of the window's commands.</summary>
    /// <param name="count">The number of answers.</param>
    /// <param name="stop">The number of <c>stop</c>; -1: the save stops the guest by itself.</param>
    /// <param name="save">The number of the command that saves the devices.</param>
    internal void Answered(int count, int stop, int save)
    {
        if (stop >= 0 && count > stop)
            Note(ref _stopAnswered);
        if (stop >= 0 && count >= save)
            Note(ref _cutsAnswered);
        if (count > save)
            Note(ref _savedAt);
    }

    /// <summary>The parts; they add up to the whole.</summary>
    /// <param name="stopped">Time of QEMU's STOP.</param>
    /// <param name="resumed">Time of QEMU's RESUME.</param>
    /// <returns>Null if the guest was paused before.</returns>
    internal ManifestStopWindow? Between(long stopped, long resumed)
    {
        if (stopped == 0 || resumed < stopped)
            return null;
        long at = stopped;
        // Steps that precede the device state had ended when it arrived.
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
