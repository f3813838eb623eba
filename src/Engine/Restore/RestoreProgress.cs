namespace Bgsnap.Engine.Restore;

/// <summary>How far a restore is; written by the thread that works, read by the one that reports.</summary>
internal sealed class RestoreProgress
{
    private long _done;
    private long _total;
    private long _faults;
    private volatile string _phase = "Starting";
    private volatile string? _problem;

    /// <summary>
    /// <c>Starting</c>, <c>Checking</c> (the disks' files), <c>Disks</c>, <c>Memory</c>, <c>Running</c> (the guest runs while its memory is
    /// loaded), <c>HugePages</c>, <c>Done</c>.
    /// </summary>
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

    /// <summary>How often a thread of QEMU had to wait for memory.</summary>
    internal long Faults => Volatile.Read(ref _faults);

    /// <summary>What keeps memory from being loaded while the guest runs and may wait for it; null: nothing.</summary>
    internal string? Problem
    {
        get => _problem;
        set => _problem = value;
    }

    /// <summary>
    /// From the start of the restore until the guest ran, in microseconds; 0: it does not run yet, or another process saw it start.
    /// </summary>
    internal long TimeToRunMicroseconds { get; set; }

    /// <summary>
    /// When the agent was about to hand QEMU the stream, as <see cref="System.Diagnostics.Stopwatch.GetTimestamp"/>; null: not yet, or
    /// another process did.
    /// </summary>
    internal long? SentAt { get; private set; }

    /// <summary>The agent hands QEMU the stream now.</summary>
    internal void Sends() => SentAt = System.Diagnostics.Stopwatch.GetTimestamp();

    /// <summary>The method that was used, once the guest runs; null: not yet.</summary>
    internal string? Method { get; set; }

    /// <summary>The guest has started to run: there is no way back.</summary>
    internal bool GuestRuns { get; set; }

    /// <summary>Another process began the restore and died.</summary>
    internal bool TakenOver { get; set; }

    /// <summary>Units loaded first because the guest touched them when it was last started.</summary>
    internal int RecordedUnits { get; set; }

    /// <summary>How long faults took, set at the end; null: this method serves no faults.</summary>
    internal FaultTimes? FaultTimes { get; set; }

    /// <summary>What is left in QEMU, in words; null: nothing.</summary>
    internal string? Left { get; set; }

    /// <summary>Why the agent chose this method; null: the user named it.</summary>
    internal string? MethodReason { get; set; }

    /// <summary>Bytes that were turned into huge pages afterwards.</summary>
    internal long HugeBytes { get; set; }

    /// <summary>
    /// When all of memory was loaded, as <see cref="System.Diagnostics.Stopwatch.GetTimestamp"/>; null: not yet, or this method does not
    /// tell it from the end.
    /// </summary>
    internal long? ResidentAt { get; private set; }

    /// <summary>All of memory is loaded now.</summary>
    internal void Resident() => ResidentAt = System.Diagnostics.Stopwatch.GetTimestamp();

    /// <summary>Copies another process's progress.</summary>
    internal void Set(string phase, long done, long total, long faults, string? problem)
    {
        Phase = phase;
        Volatile.Write(ref _done, done);
        TotalBytes = total;
        Volatile.Write(ref _faults, faults);
        Problem = problem;
    }

    /// <summary>One more fault was served.</summary>
    internal void AddFault() => Interlocked.Increment(ref _faults);

    /// <summary>So many more bytes are done.</summary>
    internal void Add(long bytes) => Interlocked.Add(ref _done, bytes);
}

/// <summary>How long threads of QEMU waited, from reading a fault until its page was loaded.</summary>
/// <param name="Count">Number of faults.</param>
/// <param name="P50Microseconds">Half took less.</param>
/// <param name="P99Microseconds">99 of 100 took less.</param>
/// <param name="MaxMicroseconds">The longest.</param>
internal sealed record FaultTimes(long Count, long P50Microseconds, long P99Microseconds, long MaxMicroseconds);
