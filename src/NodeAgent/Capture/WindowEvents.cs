using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// What QEMU's events prove of a stop window: that the guest stood still from before its disks were cut until its memory was protected.
/// </summary>
/// <remarks>
/// <code>
///   sent ────── STOP ──────────── protected ─── RESUME        it ran, and was stopped by us or, a moment before us, by its user
///   sent ──────────────────────── protected ─────────         it stood still already
///   anything else before "protected": it moved, and what was captured is not of one instant
/// </code>
/// QEMU stamps its events with the clock that we read, so that it does not matter when they reach us: libvirt hands them on when it comes
/// to it. What comes after the first RESUME is somebody else's business.
/// </remarks>
internal sealed class WindowEvents
{
    private long _sentAt = long.MaxValue,
        _protectedAt = long.MaxValue;

    /// <summary>When the guest was stopped, microseconds since 1970; 0: it was not, as far as is known.</summary>
    internal long StoppedAt { get; private set; }

    /// <summary>When the guest ran again; 0: it has not, as far as is known, or did not run before.</summary>
    internal long ResumedAt => StoppedAt == 0 ? 0 : Resumed;

    /// <summary>When somebody or something let the guest run after it was protected; 0: nobody has.</summary>
    internal long Resumed { get; private set; }

    /// <summary>The dump that held the guest has ended; what it resumes, it resumes right after.</summary>
    internal bool HoldEnded { get; private set; }

    /// <summary>What moved the guest between the stop and the protection; null: nothing did.</summary>
    internal string? Moved { get; private set; }

    /// <summary>The stop is about to be sent: what happened before does not count.</summary>
    internal void Begin(long now) => _sentAt = now;

    /// <summary>The guest's memory is protected.</summary>
    internal void Protected(long now) => _protectedAt = now;

    /// <summary>Looks at an event.</summary>
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
