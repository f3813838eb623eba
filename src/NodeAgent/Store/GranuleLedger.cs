using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Store;

/// <summary>
/// What became of each granule on its way from the guest to the file. The proof, at the end, that nothing that was copied was lost.
/// </summary>
/// <remarks>
/// <code>
///   Untouched ──▶ Copied ──▶ Zero                     every page was zero, nothing is stored
///                       └──▶ Encoded ──▶ Written      its run is in the file
/// </code>
/// A granule never steps twice, and never past a state: a buffer that is lost, or encoded or written twice, is found and named. One byte a
/// granule, in memory of its own. Distinct granules may step on several threads at once; each hand-over between threads orders its steps.
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

    /// <summary>Makes a ledger in which every granule is untouched.</summary>
    /// <param name="count">Granules of all blocks.</param>
    /// <exception cref="LinuxException">No address space.</exception>
    public GranuleLedger(long count)
    {
        Count = count;
        _bytes = (nuint)Math.Max(count, 1);
        _states = NativeMemoryMap.Allocate(_bytes);
    }

    /// <summary>Granules of all blocks.</summary>
    public long Count { get; }

    /// <summary>Granules one behind the other have been copied from the guest.</summary>
    public void NoteCopied(long first, int count)
    {
        for (long g = first; g < first + count; g++)
            Step(g, Untouched, Copied);
    }

    /// <summary>A granule turned out to be all zero: nothing of it is to be stored.</summary>
    public void NoteZero(long granule) => Step(granule, Copied, Zero);

    /// <summary>A granule's bytes are part of a run.</summary>
    public void NoteEncoded(long granule) => Step(granule, Copied, Encoded);

    /// <summary>The run that holds these granules is in the file.</summary>
    public void NoteWritten(ReadOnlySpan<long> granules)
    {
        foreach (long g in granules)
            Step(g, Encoded, Written);
    }

    /// <summary>
    /// Proves that every granule that was to be copied came to its end, and that the index has an entry for exactly those that were
    /// written.
    /// </summary>
    /// <param name="index">The index as it is about to be written.</param>
    /// <param name="copied">How many granules were to be copied.</param>
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

    /// <summary>Frees the memory. No other thread may still use it.</summary>
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
                $"granule {granule} is {Names[was]} and cannot become {Names[to]}: it went the same way twice, or left a step out"
            );
    }
}
