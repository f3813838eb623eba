using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Holds the stop window open until whoever lets the storage make its own snapshots says that they are cut.
/// </summary>
internal sealed class HoldGate
{
    private const int SliceMilliseconds = 20;
    private volatile IReadOnlyDictionary<string, string>? _volumeSnapshots;

    /// <summary>VolumeSnapshots by disk, once released.</summary>
    internal IReadOnlyDictionary<string, string>? VolumeSnapshots => _volumeSnapshots;

    /// <summary>The guest may go on.</summary>
    /// <param name="volumeSnapshots">VolumeSnapshots by disk.</param>
    internal void Release(IReadOnlyDictionary<string, string> volumeSnapshots) => _volumeSnapshots = volumeSnapshots;

    /// <summary>Waits, with the guest stopped.</summary>
    /// <param name="since">When the guest was stopped, as <see cref="Clock"/> tells it; 0: it is not known yet.</param>
    /// <param name="maximum">Longest time since then; zero for no limit.</param>
    /// <param name="disks">For whose VolumeSnapshots it waits.</param>
    /// <param name="progress">Tells what the guest is held for.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="CaptureFailedException">Nobody released it in time.</exception>
    internal void Wait(long since, TimeSpan maximum, IReadOnlyList<ManifestDisk> disks, CaptureProgress progress, CancellationToken cancel)
    {
        // QEMU, in the middle of its write, may not have told us yet when it stopped the guest.
        if (since == 0)
            since = Clock.NowMicroseconds();
        progress.HeldDisks = disks;
        progress.Phase = "Holding";
        while (_volumeSnapshots is null)
        {
            cancel.WaitHandle.WaitOne(SliceMilliseconds);
            cancel.ThrowIfCancellationRequested();
            if (maximum > TimeSpan.Zero && TimeSpan.FromMicroseconds(Clock.NowMicroseconds() - since) > maximum)
            {
                throw new CaptureFailedException(
                    "DowntimeExceeded",
                    $"the VolumeSnapshots of the disks were not cut within --max-downtime {maximum.TotalMilliseconds:0.###} ms; no "
                        + "snapshot was kept. Storage that snapshots this slowly is better captured with diskMethod Auto"
                );
            }
        }
        progress.HeldDisks = null;
    }
}
