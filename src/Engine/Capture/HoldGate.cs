using System.Diagnostics;
using Bgsnap.Qemu;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>Holds the stop window open until the caller that has the storage make its snapshots reports that they are cut.</summary>
internal sealed class HoldGate
{
    private const int SliceMilliseconds = 20;
    private volatile IReadOnlyDictionary<string, string>? _volumeSnapshots;

    /// <summary>VolumeSnapshots by disk, once released.</summary>
    internal IReadOnlyDictionary<string, string>? VolumeSnapshots => _volumeSnapshots;

    /// <summary>Ends the hold: the guest may continue.</summary>
    /// <param name="volumeSnapshots">VolumeSnapshots by disk.</param>
    internal void Release(IReadOnlyDictionary<string, string> volumeSnapshots) => _volumeSnapshots = volumeSnapshots;

    /// <summary>Waits, while the guest is stopped.</summary>
    /// <param name="since">When the guest was stopped, by <see cref="Clock"/>; 0 if not known yet.</param>
    /// <param name="maximum">The longest time since then; zero for no limit.</param>
    /// <param name="disks">The disks whose VolumeSnapshots it waits for.</param>
    /// <param name="progress">Receives what the guest is held for.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <exception cref="CaptureFailedException">The gate was not released in time.</exception>
    internal void Wait(long since, TimeSpan maximum, IReadOnlyList<ManifestDisk> disks, CaptureProgress progress, CancellationToken cancel)
    {
        // QEMU, in the middle of its write, may not have reported yet when it stopped the guest.
        TimeSpan already = TimeSpan.FromMicroseconds(since == 0 ? 0 : Math.Max(0, Clock.NowMicroseconds() - since));
        long began = Stopwatch.GetTimestamp();
        progress.HeldDisks = disks;
        progress.Phase = "Holding";
        while (_volumeSnapshots is null)
        {
            cancel.WaitHandle.WaitOne(SliceMilliseconds);
            cancel.ThrowIfCancellationRequested();
            if (maximum > TimeSpan.Zero && already + Stopwatch.GetElapsedTime(began) > maximum)
            {
                throw new CaptureFailedException(
                    Reasons.DowntimeExceeded,
                    $"the storage did not cut the disks' VolumeSnapshots within --max-downtime {maximum.TotalMilliseconds:0.###} ms; no "
                        + "snapshot was kept. For storage that snapshots this slowly, use diskMethod Auto"
                );
            }
        }
        progress.HeldDisks = null;
    }
}
