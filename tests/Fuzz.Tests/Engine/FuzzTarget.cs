namespace Bgsnap.Fuzz.Engine;

/// <summary>
/// A reader of bytes that another party wrote, and what it promises: a value that satisfies its invariants, or an exception of its own
/// type; memory within a stated multiple of the input; an end.
/// </summary>
/// <remarks>Used by one thread.</remarks>
internal abstract class FuzzTarget : IDisposable
{
    /// <summary>Its name on the command line and its folder in the corpus.</summary>
    internal abstract string Name { get; }

    /// <summary>Reads the input, and checks what comes out.</summary>
    /// <exception cref="BrokenPromiseException">The reader returned something that it must not.</exception>
    internal abstract void Read(byte[] input);

    /// <summary>Whether the reader's documentation names this exception for bad input.</summary>
    internal abstract bool IsRefusal(Exception e);

    /// <summary>Most managed bytes that reading may allocate: a part that is the reader's own, and a multiple of the input.</summary>
    internal virtual long AllocationLimit(int length) => (512 << 10) + (64L * length);

    /// <summary>Makes checksums and the like right again after a mutation, so that it reaches what lies behind them.</summary>
    internal virtual byte[] Repair(byte[] input, Prng random) => input;

    /// <summary>Pieces that mutations put in.</summary>
    internal virtual IReadOnlyList<byte[]> Words => [];

    /// <summary>Valid samples, made by the project's own writers or written down by hand.</summary>
    internal abstract IEnumerable<byte[]> Samples();

    /// <summary>How many mutations a test reads.</summary>
    internal virtual int Mutations => 4000;

    /// <summary>Largest input that mutations make.</summary>
    internal virtual int LargestInput => 64 << 10;

    /// <summary>
    /// How long the other side of a conversation waits before it hangs up, where it waits at all. Too short only ends an input early.
    /// </summary>
    internal TimeSpan Patience { get; set; } = TimeSpan.FromMilliseconds(1);

    /// <summary>Fails the input when a condition does not hold.</summary>
    protected static void Promise(bool holds, string what)
    {
        if (!holds)
            throw new BrokenPromiseException(what);
    }

    /// <summary>Gives back what the reader was made to work on.</summary>
    protected virtual void CleanUp() { }

    /// <inheritdoc/>
    public void Dispose() => CleanUp();
}

/// <summary>A reader took an input and returned what it must not.</summary>
internal sealed class BrokenPromiseException(string message) : Exception(message);
