namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// Keeps copying apart from reading events: a page that the guest has discarded must be noted before any copier checks whether it may fill
/// it.
/// </summary>
/// <remarks>
/// The kernel lets the guest's discard continue as soon as its event has been read. A copier that had checked the notes before would put
/// the discarded page back. So copiers check and copy inside their half of the gate, which they enter without waiting for each other, and
/// the reader reads and notes while no copier is inside.
/// </remarks>
internal sealed class CopyGate(int copiers)
{
    private const int Line = 32; // ints; no two copiers share a cache line, or its neighbour
    private readonly int[] _copying = new int[(copiers + 1) * Line];
    private int _reading;

    /// <summary>Enters the gate to copy; waits while events are being read.</summary>
    /// <param name="copier">The copier's number, from 0; each thread has its own.</param>
    internal void Enter(int copier)
    {
        ref int inside = ref _copying[(copier + 1) * Line];
        while (true)
        {
            _ = Interlocked.Exchange(ref inside, 1);
            if (Volatile.Read(ref _reading) == 0)
                return;
            Volatile.Write(ref inside, 0);
            SpinWait spin = default;
            while (Volatile.Read(ref _reading) != 0)
                spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    internal void Leave(int copier) => Volatile.Write(ref _copying[(copier + 1) * Line], 0);

    /// <summary>Waits until no copier is inside, and keeps them out. Only one thread may call this.</summary>
    internal void Close()
    {
        _ = Interlocked.Exchange(ref _reading, 1);
        for (int i = Line; i < _copying.Length; i += Line)
        {
            SpinWait spin = default;
            while (Volatile.Read(ref _copying[i]) != 0)
                spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    internal void Open() => Volatile.Write(ref _reading, 0);
}
