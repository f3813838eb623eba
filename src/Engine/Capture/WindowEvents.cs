using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// What QEMU's events prove about a stop window: that the guest stood still from before its disks were cut until its memory was protected.
/// </summary>
/// <remarks>
/// <code>
///   sent ────── STOP ──────────── protected ─── RESUME        it ran, and was stopped by us or, a moment before us, by its user
///   sent ──────────────────────── protected ─────────         it stood still already
///   anything else before "protected": it moved, and what was captured is not of one instant
/// </code>
/// QEMU stamps its events with the clock that the agent reads, so it does not matter when they arrive: libvirt delivers them late. Events
/// after the first RESUME concern another client.
/// </remarks>
internal sealed class WindowEvents
{
    private long _sentAt = long.MaxValue,
        _protectedAt = long.MaxValue;

    /// <summary>When the guest was stopped, microseconds since 1970; 0 if it was not, as far as is known.</summary>
    internal long StoppedAt { get; private set; }

    /// <summary>When the guest ran again; 0 if it has not, as far as is known, or was paused before.</summary>
    internal long ResumedAt => StoppedAt == 0 ? 0 : Resumed;

    /// <summary>When anything resumed the guest after its memory was protected; 0 if nothing has.</summary>
    internal long Resumed { get; private set; }

    /// <summary>Whether the dump that held the guest has ended; if it resumes the guest, it does so right after.</summary>
    internal bool HoldEnded { get; private set; }

    /// <summary>What changed the guest's run state between the stop and the protection; null if nothing did.</summary>
    internal string? Moved { get; private set; }

    /// <summary>Called right before the stop is sent: what happened earlier does not count.</summary>
    internal void Begin(long now) => _sentAt = now;

    /// <summary>Records that the guest's memory is protected.</summary>
    internal void Protected(long now) => _protectedAt = now;

    /// <summary>Examines an event.</summary>
    internal void Note(QmpEvent e)
    {
        if (e.Timestamp < _sentAt)
            return;
        bool early = e.Timestamp < _protectedAt;
        switch (e.Name)
        {
            case "STOP" when early && StoppedAt == 0:
                StoppedAt = e.Timestamp;
                break;
            case "STOP" or "RESUME" or "RESET" or "SUSPEND" or "WAKEUP" when early:
                Moved ??= e.Name;
                break;
            case "RESUME" when Resumed == 0:
                Resumed = e.Timestamp;
                break;
            case "DUMP_COMPLETED":
                HoldEnded = true;
                break;
        }
    }
}
