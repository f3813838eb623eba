using System.Diagnostics;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// Loads the memory of a QEMU whose guest runs, or is about to run: one thread reads events, some threads serve faults, and some load the
/// rest, but serve faults first.
/// </summary>
internal sealed class LazyServer : IDisposable
{
    // Faults mostly wait for storage, so several are served at once, whatever the number of processors.
    private const int FaultThreads = 4;
    private static readonly TimeSpan RetryBad = TimeSpan.FromMilliseconds(500);

    private readonly Userfaultfd _uffd;
    private readonly LazyRam _ram;
    private readonly RestoreProgress _progress;
    private readonly BandwidthLimit _bandwidth;
    private readonly FaultQueue _queue = new();
    private readonly FaultQueue _starved = new();
    private readonly Action _reopen;
    private readonly FetchOrder _order;
    private readonly StartRecorder _recorder;
    private readonly EventReader _reader;
    private readonly UnitFiller[] _fillers;
    private readonly LatencyHistogram[] _latencies;
    private readonly Threads _threads = new();
    private Thread? _readerThread;
    private readonly CancellationTokenSource _ended = new();
    private readonly ManualResetEventSlim _wake = new();
    private volatile Exception? _failure;
    private volatile string? _problem;
    private volatile string? _stuck;
    private volatile string? _reopenProblem;
    private volatile bool _fetching;

    internal LazyServer(
        Userfaultfd uffd,
        PidFd process,
        LazyRam ram,
        PageLogReader log,
        RestoreProgress progress,
        long bytesPerSecond,
        IReadOnlyList<long> recorded,
        StartRecorder recorder,
        Action reopen
    )
    {
        (_uffd, _ram, _progress, _recorder, _reopen) = (uffd, ram, progress, recorder, reopen);
        _bandwidth = new BandwidthLimit(bytesPerSecond);
        _order = new FetchOrder(ram, recorded, recorder);
        int fetchers = Math.Clamp(Environment.ProcessorCount / 2, 1, 4);
        CopyGate gate = new(FaultThreads + fetchers);
        _fillers = [.. Enumerable.Range(0, FaultThreads + fetchers).Select(i => new UnitFiller(uffd, ram, log, gate, i))];
        _latencies = [.. _fillers.Select(_ => new LatencyHistogram())];
        _reader = new EventReader(uffd, process, ram, gate, _queue);
    }

    /// <summary>Why a thread of QEMU waits for memory that cannot be read; null: no thread does.</summary>
    internal string? Stuck => _stuck;

    /// <summary>Times from reading a fault until its page was loaded, in nanoseconds.</summary>
    internal LatencyHistogram Latency
    {
        get
        {
            LatencyHistogram all = new();
            foreach (LatencyHistogram one in _latencies)
                all.Add(one);
            return all;
        }
    }

    /// <summary>Starts to serve faults.</summary>
    internal void Start()
    {
        _readerThread = AgentThread.Start("events", _reader.Run, Failed);
        for (int i = 0; i < _fillers.Length; i++)
        {
            int me = i;
            bool fetches = i >= FaultThreads;
            _threads.Add(AgentThread.Start(fetches ? "fetch" : "faults", () => Work(me, fetches), Failed));
        }
    }

    /// <summary>Starts to load what no thread waits for.</summary>
    internal void StartFetching() => _fetching = true;

    /// <summary>Throws the exception that ended a thread; the guest may have been waiting since.</summary>
    internal void ThrowIfFailed()
    {
        if (_failure is { } e)
            throw e is RestoreFailedException or OperationCanceledException
                ? e
                : new RestoreFailedException(Reasons.RestoreServerFailed, e.Message, e);
    }

    /// <summary>Waits until all data is loaded.</summary>
    /// <exception cref="RestoreFailedException">QEMU has ended, or a call failed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; a thread that touches missing memory waits.</exception>
    internal void WaitUntilResident(CancellationToken cancel)
    {
        for (long retried = Stopwatch.GetTimestamp(); _ram.PendingUnits > 0; )
        {
            ThrowIfFailed();
            cancel.ThrowIfCancellationRequested();
            _ = _wake.Wait(50, CancellationToken.None);
            _wake.Reset();
            if (Stopwatch.GetElapsedTime(retried) < RetryBad)
                continue;
            retried = Stopwatch.GetTimestamp();
            RetryWhatIsBad();
        }
        ThrowIfFailed();
        _progress.Problem = null;
    }

    private void RetryWhatIsBad()
    {
        if (_problem is null)
        {
            _progress.Problem = null; // the last try went well
            return;
        }
        _problem = null;
        try
        {
            _reopen();
            _reopenProblem = null;
        }
        catch (Exception e) when (e is SnapshotCorruptException or IOException)
        {
            _reopenProblem = $"; after reopening it: {e.Message}";
        }
        _ram.ForgiveBad();
        // Faults come before background loading, whatever its rate limit.
        while (_starved.TryTake(out Fault fault) && _queue.TryAdd(fault))
            ;
        _order.Restart();
    }

    private void Work(int me, bool fetches)
    {
        if (fetches)
            Linux.ThreadPriority.Raise(-5);
        while (!_ended.IsCancellationRequested)
        {
            if (_queue.TryTake(out Fault fault))
                Serve(me, fault);
            else if (!fetches || !_fetching || !FetchOne(me))
                _queue.Wait();
        }
    }

    private void Serve(int me, Fault fault)
    {
        if (_ram.Find(fault.Address) is not { } block)
            return; // in no block of ours, so we did not register it
        UnitFiller filler = _fillers[me];
        long unit = block.UnitOf(fault.Address);
        ulong page = fault.Address / (ulong)block.PageSize * (ulong)block.PageSize;
        _recorder.Touch(unit);
        if ((_ram.Removed(unit) & LazyRam.PageBit(block, unit, page)) != 0)
        {
            filler.FillRemoved(block, page);
        }
        else if (_ram.TryClaim(unit))
        {
            string? problem = filler.Fill(block, unit);
            _stuck = problem ?? _stuck;
            Note(problem, block, unit);
            _order.Follow(unit);
        }
        else
        {
            switch (_ram.State(unit))
            {
                case LazyRam.Zero:
                    filler.FillZero(block, unit);
                    break;
                case LazyRam.Done:
                    // The page was loaded between the fault and its message; its waiting thread was woken then. Or it was discarded without
                    // an event (hugetlbfs): if a page is missing where everything was loaded, it is zero.
                    filler.FillRemoved(block, page);
                    break;
                case LazyRam.Bad:
                    _stuck = _problem;
                    _ = _starved.TryAdd(fault);
                    return;
            }
        }
        _latencies[me].Add((long)(Stopwatch.GetElapsedTime(fault.ReadAt).Ticks * 100));
        _progress.AddFault();
    }

    private bool FetchOne(int me)
    {
        long unit = _order.Claim();
        if (unit < 0)
            return false;
        LazyBlock block = _ram.BlockOf(unit);
        Note(_fillers[me].Fill(block, unit), block, unit);
        _bandwidth.Spend(block.UnitLength(unit), _ended.Token);
        return true;
    }

    private void Note(string? problem, LazyBlock block, long unit)
    {
        if (problem is not null)
        {
            _problem = problem;
            _progress.Problem =
                $"the guest waits as soon as it touches what cannot be read: {problem}{_reopenProblem}. The agent tries again every "
                + $"{RetryBad.TotalMilliseconds:0} ms";
        }
        else
        {
            _progress.Add(block.UnitLength(unit));
        }
        if (_ram.PendingUnits == 0 || problem is not null)
            _wake.Set();
    }

    /// <summary>
    /// A thread has ended. On the way out this no longer matters: usually QEMU, which every thread needs, has ended before.
    /// </summary>
    private void Failed(Exception e)
    {
        if (_ended.IsCancellationRequested)
            return;
        _failure ??= e is LinuxException { Errno: Errno.ESRCH }
            ? new RestoreFailedException(Reasons.QemuGone, "QEMU ended before all of its memory was loaded", e)
            : e;
        _wake.Set();
    }

    /// <summary>Ends all threads. From now on a thread of QEMU that touches missing, still registered memory waits.</summary>
    public void Dispose()
    {
        _ended.Cancel();
        _threads.Join();
        _reader.Stop();
        _readerThread?.Join();
        foreach (UnitFiller f in _fillers)
            f.Dispose();
        _wake.Dispose();
        _ended.Dispose();
    }
}
