namespace Bgsnap.Storm;

/// <summary>The promises that a round may find broken.</summary>
internal enum Promise
{
    /// <summary>QEMU ended although the storm did not end it.</summary>
    GuestDied,

    /// <summary>A guest that its user wants to run printed nothing for too long.</summary>
    GuestHung,

    /// <summary>The guest found wrong bytes in its own memory or on its disks.</summary>
    GuestCorrupt,

    /// <summary>The guest is paused although its user wants it to run, or the reverse.</summary>
    WrongRunState,

    /// <summary>Something of ours stayed in QEMU, or beside the output.</summary>
    Leftover,

    /// <summary>A foreign backup failed or holds wrong data because a capture ran beside it.</summary>
    OthersHarmed,

    /// <summary>A snapshot that was called Ready is not of one instant.</summary>
    Torn,

    /// <summary>A snapshot that was called Ready has no sound files.</summary>
    Unsound,

    /// <summary>A snapshot that was called Ready could not be restored.</summary>
    NotRestored,

    /// <summary>A command ended in a way that the documentation does not list.</summary>
    BadEnd,

    /// <summary>A command did not end.</summary>
    NeverEnds,

    /// <summary>The storm itself could not do what it wanted.</summary>
    StormFailed,
}

/// <summary>A broken promise. It ends the round; its evidence is kept.</summary>
internal sealed class ViolationException(Promise promise, string message, Exception? inner = null) : Exception(message, inner)
{
    public Promise Promise { get; } = promise;
}
