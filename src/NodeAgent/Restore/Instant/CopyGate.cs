namespace Bgsnap.NodeAgent.Restore.Instant;

/// <summary>
/// Keeps copying and the reading of events apart: what the guest has thrown away must be noted before anybody looks whether it may be
/// filled.
/// </summary>
/// <remarks>
/// The kernel lets the guest's discard go on as soon as its event has been read. A copy that had looked at the notes before would put
/// back what was thrown away. So copiers look and copy within their half of the gate, which they enter without waiting for each other, and
/// the reader reads and notes while none is inside.
/// </remarks>
internal sealed class CopyGate(int copiers)
{
    private const int Line = 32; // ints; no two copiers share a cache line, or its neighbour
    private readonly int[] _copying = new int[(copiers + 1) * Line];
    private int _reading;

    /// <summary>Enters to copy; waits while events are being read.</summary>
    /// <param name="copier">From 0; one thread's own.</param>
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

    /// <summary>Waits until no copier is inside, and keeps them out. One thread only.</summary>
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
