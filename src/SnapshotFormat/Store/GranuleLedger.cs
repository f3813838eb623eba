using Bgsnap.Linux;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// Records what happened to each granule on its way from the guest to the file. At the end it proves that no copied granule was lost.
/// </summary>
/// <remarks>
/// <code>
///   Untouched ──▶ Copied ──▶ Zero                     every page was zero, nothing is stored
///                       └──▶ Encoded ──▶ Written      its run is in the file
/// </code>
/// A granule never takes a step twice and never skips a state: a buffer that is lost, or encoded or written twice, is detected and named.
/// The ledger uses one byte per granule, in its own memory. Several threads may step distinct granules at once; each hand-over between
/// threads orders the steps of its granules.
/// </remarks>
public sealed unsafe class GranuleLedger : IDisposable
{
    private const byte Untouched = 0,
        Copied = 1,
        Encoded = 2,
        Zero = 3,
        Written = 4;
    private static readonly string[] Names = ["untouched", "copied", "encoded", "zero", "written"];
    private readonly nuint _bytes;
    private byte* _states;

    /// <summary>Creates a ledger in which every granule is untouched.</summary>
    /// <param name="count">Number of granules of all blocks.</param>
    /// <exception cref="LinuxException">There is no address space.</exception>
    public GranuleLedger(long count)
    {
        Count = count;
        _bytes = (nuint)Math.Max(count, 1);
        _states = NativeMemoryMap.Allocate(_bytes);
    }

    /// <summary>Number of granules of all blocks.</summary>
    public long Count { get; }

    /// <summary>Records that adjacent granules were copied from the guest.</summary>
    public void NoteCopied(long first, int count)
    {
        for (long g = first; g < first + count; g++)
            Step(g, Untouched, Copied);
    }

    /// <summary>Records that a granule is all zero: nothing of it is stored.</summary>
    public void NoteZero(long granule) => Step(granule, Copied, Zero);

    /// <summary>Records that a granule's bytes are part of a run.</summary>
    public void NoteEncoded(long granule) => Step(granule, Copied, Encoded);

    /// <summary>Records that the run with these granules is in the file.</summary>
    public void NoteWritten(ReadOnlySpan<long> granules)
    {
        foreach (long g in granules)
            Step(g, Encoded, Written);
    }

    /// <summary>
    /// Proves that every granule that was to be copied reached its final state, and that the index has an entry for exactly those that were
    /// written.
    /// </summary>
    /// <param name="index">The index as it is about to be written.</param>
    /// <param name="copied">The number of granules that were to be copied.</param>
    /// <returns>What is wrong, or null.</returns>
    public string? Problem(GranuleIndex index, long copied)
    {
        ArgumentNullException.ThrowIfNull(index);
        if (index.Count != Count)
            return $"the index has {index.Count} granules, the ledger {Count}";
        long ended = 0;
        for (long g = 0; g < Count; g++)
        {
            byte state = Live[g];
            if (state is Copied or Encoded)
                return $"granule {g} was {Names[state]} and never written: its bytes were lost on their way to the file";
            if (state == Written == index.Get(g).IsZero)
                return $"granule {g} is {Names[state]}, and its index entry says otherwise";
            if (state != Untouched)
                ended++;
        }
        return ended == copied ? null : $"{copied} granules were to be copied, {ended} were";
    }

    /// <summary>Frees the memory. No other thread may still use the ledger.</summary>
    public void Dispose()
    {
        if (_states is null)
            return;
        NativeMemoryMap.Free(_states, _bytes);
        _states = null;
    }

    private byte* Live
    {
        get
        {
            ObjectDisposedException.ThrowIf(_states is null, this);
            return _states;
        }
    }

    private void Step(long granule, byte from, byte to)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)granule, (ulong)Count, nameof(granule));
        // SAFETY: below Count, checked above; the mapping holds Count bytes until Dispose.
        byte was = Interlocked.CompareExchange(ref Live[granule], to, from);
        if (was != from)
            throw new InvalidOperationException(
                $"granule {granule} is {Names[was]} and cannot become {Names[to]}: a step was repeated or left out"
            );
    }
}
