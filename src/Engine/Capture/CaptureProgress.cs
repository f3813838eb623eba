using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>The progress of a capture: the capture's threads write it, reporters read it. Plain numbers, no locks.</summary>
public sealed class CaptureProgress
{
    private long _copiedBytes;
    private long _writtenBytes;
    private long _faults;
    private long _diskTotalBytes;
    private long _diskCopiedBytes;
    private volatile Exception? _failing;
    private volatile string _phase = "Preparing";

    /// <summary>The current phase: Preparing, Protecting, Stopped, Holding, Copying, Writing, Done; CleaningUp after a failure.</summary>
    public string Phase
    {
        get => _phase;
        set
        {
            _phase = value;
            PhaseChanged?.Invoke();
        }
    }

    /// <summary>Whether the guest has to wait if the agent stands still in this phase.</summary>
    public static bool HoldsGuest(string phase) => phase is "Protecting" or "Stopped" or "Holding" or "Copying";

    /// <summary>Called on the capturing thread when a phase begins, before any of its work.</summary>
    public Action? PhaseChanged { get; set; }

    /// <summary>The snapshot's id in its manifest; null if no snapshot was begun.</summary>
    public Guid? Snapshot { get; set; }

    /// <summary>The instant that the snapshot shows, once fixed.</summary>
    public DateTimeOffset? PointInTime { get; set; }

    /// <summary>Bytes that were under protection when the window began.</summary>
    public long TotalBytes { get; set; }

    /// <summary>Bytes copied and released.</summary>
    public long CopiedBytes => Volatile.Read(ref _copiedBytes);

    /// <summary>Bytes handed to the file.</summary>
    public long WrittenBytes => Volatile.Read(ref _writtenBytes);

    /// <summary>Bytes of disks to read, as far as known.</summary>
    public long DiskTotalBytes => Volatile.Read(ref _diskTotalBytes);

    /// <summary>Bytes of disks that have been read.</summary>
    public long DiskCopiedBytes => Volatile.Read(ref _diskCopiedBytes);

    /// <summary>Guest writes that had to wait.</summary>
    public long Faults => Volatile.Read(ref _faults);

    /// <summary>The disks for whose VolumeSnapshots the guest is held stopped; null if it is not held.</summary>
    internal IReadOnlyList<ManifestDisk>? HeldDisks { get; set; }

    /// <summary>Why the capture is being given up; null if it is not, or if the reason is not known yet.</summary>
    internal Exception? Failing
    {
        get => _failing;
        set => _failing = value;
    }

    /// <summary>The guest's state after a capture failed and was undone, for the message; null if QEMU was not reached.</summary>
    internal FinalGuestState? FinalGuestState { get; set; }

    /// <summary>Resets the counters, because the attempt is repeated from the beginning.</summary>
    internal void BeginAgain()
    {
        (_copiedBytes, _writtenBytes, _faults, _diskTotalBytes, _diskCopiedBytes) = (0, 0, 0, 0, 0);
        (PointInTime, TotalBytes, HeldDisks, Failing) = (null, 0, null, null);
        Phase = "Preparing";
    }

    internal void AddCopied(long bytes) => Interlocked.Add(ref _copiedBytes, bytes);

    internal void AddWritten(long bytes) => Interlocked.Add(ref _writtenBytes, bytes);

    internal void AddDiskTotal(long bytes) => Interlocked.Add(ref _diskTotalBytes, bytes);

    internal void AddDiskCopied(long bytes) => Interlocked.Add(ref _diskCopiedBytes, bytes);

    internal void AddFault() => Interlocked.Increment(ref _faults);
}
