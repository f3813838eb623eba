using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.NodeAgent;
using Bgsnap.Qemu;
using ModelCheck.Scheduling;

namespace ModelCheck.Model;

/// <summary>What a model leaves out, to see that the check misses it.</summary>
[Flags]
internal enum Defects
{
    None = 0,

    /// <summary>Copies count without a proof that the page was protected when it had been read, as before there was one.</summary>
    NoProof = 1,

    /// <summary>Releasing a page wakes nobody who waits for it.</summary>
    NoWake = 2,
}

/// <summary>
/// The guest's memory and the kernel's part in it: protection, faults that wait, discards that wait until they have been read, and what
/// takes protection away without a word. One value stands for the bytes of a granule.
/// </summary>
/// <remarks>
/// After fs/userfaultfd.c and mm/userfaultfd.c of Linux 6.1 to 6.18: a writer's fault is queued and stays queued until a wake in its range;
/// reading it wakes nobody. MADV_DONTNEED raises mmap_changing, queues REMOVE and waits until that has been read; when its thread runs
/// again it lowers mmap_changing, and only then the page goes, and its protection with it. While mmap_changing is up protection cannot be
/// changed (EAGAIN).
/// </remarks>
internal sealed unsafe class GuestModel(ulong start, int granules, Defects defects) : IProtectedMemory
{
    private readonly ulong[] _values = new ulong[granules];
    private readonly bool[] _protected = new bool[granules];
    private readonly List<UffdMessage> _queue = [];
    private readonly List<Waiter> _faults = [];
    private int _changing;
    private int _removesQueued;
    private int _removesRead;
    private bool _closed;
    private bool _stopped;

    private sealed class Waiter(int granule)
    {
        internal readonly int Granule = granule;
        internal bool IsWoken;
    }

    /// <summary>Stops the vCPUs between two writes; one that waits for a fault is waited for, as QEMU does.</summary>
    internal void Stop()
    {
        _stopped = true;
        Scheduler.Await(() => _faults.Count == 0 || _closed);
    }

    /// <summary>Waits until nobody waits for a page; false: the time is over.</summary>
    internal bool AwaitQuiet(long microseconds) => Scheduler.Await(() => _faults.Count == 0, microseconds);

    /// <summary>Lets them run.</summary>
    internal void Continue() => _stopped = false;

    /// <summary>What the memory holds now.</summary>
    internal ulong[] Values => [.. _values];

    /// <summary>Sets a value before the guest begins.</summary>
    internal void Fill(int granule, ulong value) => _values[granule] = value;

    /// <summary>A vCPU writes.</summary>
    internal void Write(int granule, ulong value)
    {
        Scheduler.Await(() => !_stopped);
        while (_protected[granule])
        {
            Waiter waiter = new(granule);
            _faults.Add(waiter);
            _queue.Add(
                new UffdMessage { Event = UffdConstants.EventPagefault, PagefaultAddress = start + ((ulong)granule * GuestRam.GranuleSize) }
            );
            Scheduler.Await(() => waiter.IsWoken);
            _faults.Remove(waiter);
        }
        _values[granule] = value;
        Scheduler.Point();
    }

    /// <summary>QEMU gives memory back: MADV_DONTNEED on private anonymous memory.</summary>
    internal void Discard(int granule)
    {
        Scheduler.Point();
        if (!_closed)
        {
            _changing++;
            ulong from = start + ((ulong)granule * GuestRam.GranuleSize);
            _queue.Add(
                new UffdMessage
                {
                    Event = UffdConstants.EventRemove,
                    RemoveStart = from,
                    RemoveEnd = from + GuestRam.GranuleSize,
                }
            );
            int ticket = ++_removesQueued;
            Scheduler.Await(() => _closed || _removesRead >= ticket);
            _changing--;
            Scheduler.Point();
        }
        (_values[granule], _protected[granule]) = (0, false);
        Scheduler.Point();
    }

    /// <summary>Something takes the protection of a page away and says nothing, as the merging of equal pages does.</summary>
    internal void LoseProtection(int granule)
    {
        Scheduler.Point();
        _protected[granule] = false;
        Scheduler.Point();
    }

    /// <summary>Protects a granule; false while a discard is under way.</summary>
    internal bool TryProtect(int granule)
    {
        Scheduler.Point();
        if (_changing > 0)
            return false;
        _protected[granule] = true;
        return true;
    }

    /// <summary>The last reference to the userfaultfd goes: nothing is protected, nobody waits.</summary>
    internal void Close()
    {
        Scheduler.Point();
        _closed = true;
        Array.Clear(_protected);
        _queue.Clear();
        foreach (Waiter waiter in _faults)
            waiter.IsWoken = true;
        Scheduler.Point();
    }

    /// <inheritdoc/>
    public void Read(GuestRam.Block block, ulong address, byte* destination, int length)
    {
        for (int at = 0; at < length; at += GuestRam.GranuleSize)
        {
            Scheduler.Point();
            // One page is enough to tell the values apart; the rest of the granule is zero.
            new Span<byte>(destination + at, Math.Min(GuestRam.GranuleSize, length - at)).Clear();
            *(ulong*)(destination + at) = _values[Number(address) + (at / GuestRam.GranuleSize)];
        }
        Scheduler.Point();
    }

    /// <inheritdoc/>
    public void Prove(GuestRam.Block block, ulong from, ulong end)
    {
        if (defects.HasFlag(Defects.NoProof))
            return;
        for (ulong at = from; at < end; at += GuestRam.GranuleSize)
        {
            Scheduler.Point();
            if (!_protected[Number(at)])
                throw new CaptureFailedException("ProtectionLost", $"granule {Number(at)} was not protected when it had been read");
        }
        Scheduler.Point();
    }

    /// <inheritdoc/>
    public bool TryUnprotect(ulong from, ulong length)
    {
        Scheduler.Point();
        if (_closed)
            return true;
        if (_changing > 0)
            return false;
        for (int g = Number(from), end = Number(from + length - 1); g <= end; g++)
            _protected[g] = false;
        if (!defects.HasFlag(Defects.NoWake))
            WakeIn(from, length);
        Scheduler.Point();
        return true;
    }

    /// <inheritdoc/>
    public void Wake(ulong from, ulong length)
    {
        Scheduler.Point();
        WakeIn(from, length);
        Scheduler.Point();
    }

    /// <inheritdoc/>
    public bool AwaitEvents(int milliseconds) => Scheduler.Await(() => _queue.Count > 0, milliseconds * 1000L);

    /// <inheritdoc/>
    public int ReadEvents(UffdMessage* messages, int capacity)
    {
        Scheduler.Point();
        int count = Math.Min(capacity, _queue.Count);
        for (int i = 0; i < count; i++)
        {
            messages[i] = _queue[i];
            // Once a message is read, its discarder may run at once, whether the others of the batch were served or not.
            if (messages[i].Event == UffdConstants.EventRemove)
                _removesRead++;
        }
        _queue.RemoveRange(0, count);
        Scheduler.Point();
        return count;
    }

    private int Number(ulong address) => (int)((address - start) / GuestRam.GranuleSize);

    private void WakeIn(ulong from, ulong length)
    {
        foreach (Waiter w in _faults)
        {
            if (w.Granule >= Number(from) && w.Granule <= Number(from + length - 1))
                w.IsWoken = true;
        }
    }
}
