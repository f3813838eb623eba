using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>Where a capture stands; written by its threads, read by whoever reports. Plain numbers, no locks.</summary>
public sealed class CaptureProgress
{
    private long _copiedBytes;
    private long _writtenBytes;
    private long _faults;
    private long _diskTotalBytes;
    private long _diskCopiedBytes;
    private volatile Exception? _failing;
    private volatile string _phase = "Preparing";

    /// <summary>What is being done: Preparing, Protecting, Stopped, Holding, Copying, Writing, Done; CleaningUp when it failed.</summary>
    public string Phase
    {
        get => _phase;
        set
        {
            _phase = value;
            PhaseChanged?.Invoke();
        }
    }

    /// <summary>The guest waits for us in this phase, should we stand still.</summary>
    public static bool HoldsGuest(string phase) => phase is "Protecting" or "Stopped" or "Holding" or "Copying";

    /// <summary>Called on the capturing thread when a phase begins, before anything of it is done.</summary>
    public Action? PhaseChanged { get; set; }

    /// <summary>What the snapshot in the making is called in its manifest; null: none was begun.</summary>
    public Guid? Snapshot { get; set; }

    /// <summary>The instant that the snapshot shows, once it is fixed.</summary>
    public DateTimeOffset? PointInTime { get; set; }

    /// <summary>Bytes that were under protection when the window began.</summary>
    public long TotalBytes { get; set; }

    /// <summary>Bytes copied and released.</summary>
    public long CopiedBytes => Volatile.Read(ref _copiedBytes);

    /// <summary>Bytes handed to the file.</summary>
    public long WrittenBytes => Volatile.Read(ref _writtenBytes);

    /// <summary>Bytes of disks that are to be read, as far as known.</summary>
    public long DiskTotalBytes => Volatile.Read(ref _diskTotalBytes);

    /// <summary>Bytes of disks that have been read.</summary>
    public long DiskCopiedBytes => Volatile.Read(ref _diskCopiedBytes);

    /// <summary>Guest writes that had to wait.</summary>
    public long Faults => Volatile.Read(ref _faults);

    /// <summary>The disks for whose VolumeSnapshots the guest is held stopped; null: it is not.</summary>
    internal IReadOnlyList<ManifestDisk>? HeldDisks { get; set; }

    /// <summary>Why the capture is being given up; null: it is not, or that is not known yet.</summary>
    internal Exception? Failing
    {
        get => _failing;
        set => _failing = value;
    }

    /// <summary>
    /// How the guest was when a capture had failed and everything of it was taken back, for people; null: QEMU was not reached.
    /// </summary>
    internal GuestAfterwards? GuestAfterwards { get; set; }

    /// <summary>Nothing of what was done counts.</summary>
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
