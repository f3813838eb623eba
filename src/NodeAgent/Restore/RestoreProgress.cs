namespace Bgsnap.NodeAgent.Restore;

/// <summary>How far a restore is; written by the one that works, read by the one that reports.</summary>
internal sealed class RestoreProgress
{
    private long _done;
    private long _total;
    private volatile string _phase = "Starting";

    /// <summary><c>Starting</c>, <c>Checking</c> (the disks' files), <c>Disks</c>, <c>Memory</c>, <c>Done</c>.</summary>
    internal string Phase
    {
        get => _phase;
        set => _phase = value;
    }

    /// <summary>Bytes done: of the disks' files that were checked, of disk data written, and of RAM sent, zeroes included.</summary>
    internal long DoneBytes => Volatile.Read(ref _done);

    /// <summary>Bytes to do in all.</summary>
    internal long TotalBytes
    {
        get => Volatile.Read(ref _total);
        set => Volatile.Write(ref _total, value);
    }

    /// <summary>That much more is done.</summary>
    internal void Add(long bytes) => Interlocked.Add(ref _done, bytes);
}
