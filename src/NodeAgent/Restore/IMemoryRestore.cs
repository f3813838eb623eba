using Bgsnap.NodeAgent.Streams;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>
/// A way to bring RAM and devices into a QEMU that waits. Preflight and disks are done when it is called, and are the same for
/// every way (docs/design/0011).
/// </summary>
internal interface IMemoryRestore
{
    /// <summary>Its name in summaries, such as <c>stream</c>.</summary>
    string Method { get; }

    /// <summary>Looks whether this way is possible here, before anything is written.</summary>
    /// <exception cref="Capture.EngineUnavailableException">It is not, and why.</exception>
    void Check(RestoreTarget target, SnapshotStream snapshot) { }

    /// <summary>Restores, and returns when all of RAM is in the target.</summary>
    /// <param name="target">The QEMU that waits.</param>
    /// <param name="snapshot">The snapshot.</param>
    /// <param name="progress">Told how much of RAM is there: <see cref="RestoreProgress.Add"/>.</param>
    /// <param name="guestRuns">Called once, when the guest runs: at the end, or, where RAM follows the guest, long before it.</param>
    /// <param name="cancel">Ends it in good order. A guest that runs already, and whose RAM follows it, waits for the rest then.</param>
    /// <exception cref="RestoreFailedException">QEMU did not take it, and the guest has not run; or RAM that follows a guest cannot
    /// come.</exception>
    /// <exception cref="Store.SnapshotCorruptException">The snapshot is damaged. The guest has not run.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    void Run(RestoreTarget target, SnapshotStream snapshot, RestoreProgress progress, Action guestRuns, CancellationToken cancel);
}
