using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Engine.Restore;

/// <summary>
/// A method that loads RAM and devices into a waiting QEMU. Preflight and disks are done before it is called, and are the same for every
/// method (docs/design/0011).
/// </summary>
internal interface IMemoryRestore
{
    /// <summary>Its name in summaries, such as <c>stream</c>.</summary>
    string Method { get; }

    /// <summary>Checks that this method is possible here, before anything is written.</summary>
    /// <exception cref="Capture.EngineUnavailableException">It is not possible; the message says why.</exception>
    void Check(RestoreTarget target, SnapshotStream snapshot) { }

    /// <summary>Restores, and returns when all of RAM is in the target.</summary>
    /// <param name="target">The QEMU that waits.</param>
    /// <param name="snapshot">The snapshot.</param>
    /// <param name="progress">Receives how much of RAM is loaded: <see cref="RestoreProgress.Add"/>.</param>
    /// <param name="guestRuns">Called once, when the guest runs: at the end or, where RAM is loaded while the guest runs, long before
    /// it.</param>
    /// <param name="cancel">Ends the restore in good order. A guest that runs before its RAM is loaded then waits for the rest.</param>
    /// <exception cref="RestoreFailedException">QEMU refused the snapshot, and the guest has not run; or the rest of a running guest's RAM
    /// cannot be loaded.</exception>
    /// <exception cref="SnapshotCorruptException">The snapshot is damaged. The guest has not run.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    void Run(RestoreTarget target, SnapshotStream snapshot, RestoreProgress progress, Action guestRuns, CancellationToken cancel);
}
