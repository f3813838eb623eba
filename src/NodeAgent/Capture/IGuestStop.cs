using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// What stops the guest for a window and lets it go. There is one for each case, so that the window itself need not know which it is:
/// <see cref="SaveStop"/> where nothing is to be done between stopping and saving, <see cref="GuestHold"/> where something is,
/// <see cref="LastingStop"/> for a guest that is to stay stopped.
/// </summary>
internal interface IGuestStop : IDisposable
{
    /// <summary>The guest stays stopped when the window is over.</summary>
    bool Lasts { get; }

    /// <summary>QEMU holds the guest apart from its saving of the devices: only <see cref="Release"/> lets it go.</summary>
    bool Holds { get; }

    /// <summary>The stop is sent next.</summary>
    void Arm();

    /// <summary>Adds the command that stops the guest, before those that cut its disks.</summary>
    void AddTo(QmpBatch batch);

    /// <summary>The devices are saved, and the memory is protected: the guest may run.</summary>
    void Release();

    /// <summary>The window is over, and the guest's state settled. Whatever fails from here on does not concern it.</summary>
    /// <param name="ran">It ran before.</param>
    void Settled(bool ran);

    /// <summary>The window is given up: the guest gets back the state that it had. Never throws.</summary>
    /// <param name="ran">It ran before, as far as is known.</param>
    void GiveUp(bool ran);

    /// <summary>The snapshot is complete: a guest that was to stay stopped may stay so.</summary>
    void Keep();
}
