using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// How a window stops the guest and resumes it. Each case has its own implementation, so that the window need not know which one it uses:
/// <see cref="SaveStop"/> where nothing happens between stopping and saving, <see cref="GuestHold"/> where something does,
/// <see cref="PermanentStop"/> for a guest that is to stay stopped.
/// </summary>
internal interface IGuestStop : IDisposable
{
    /// <summary>Whether the guest stays stopped after the window.</summary>
    bool Lasts { get; }

    /// <summary>Whether QEMU holds the guest independently of saving its devices, so that only <see cref="Release"/> resumes it.</summary>
    bool Holds { get; }

    /// <summary>Called right before the stop is sent.</summary>
    void Arm();

    /// <summary>Adds the command that stops the guest, before those that cut its disks.</summary>
    void AddTo(QmpBatch batch);

    /// <summary>The devices are saved and the memory is protected: the guest may run.</summary>
    void Release();

    /// <summary>The window is over, and the guest's state is settled. Later failures do not affect the guest's state.</summary>
    /// <param name="ran">Whether the guest ran before.</param>
    void Settled(bool ran);

    /// <summary>The window is given up: gives the guest back the state that it had. Never throws.</summary>
    /// <param name="ran">Whether the guest ran before, as far as is known.</param>
    void GiveUp(bool ran);

    /// <summary>The snapshot is complete: a guest that was to stay stopped may stay stopped.</summary>
    void Keep();
}
