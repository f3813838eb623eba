namespace Bgsnap.Storm;

/// <summary>The storm's options.</summary>
internal sealed record StormOptions
{
    /// <summary>The seed; it and a round's number determine all choices.</summary>
    public required ulong Seed { get; init; }

    /// <summary>No round starts after this time.</summary>
    public required TimeSpan Time { get; init; }

    /// <summary>Runs only this round; null: one after another.</summary>
    public int? Round { get; init; }

    /// <summary>The first round's number.</summary>
    public int First { get; init; } = 1;

    /// <summary>The number of machines in parallel.</summary>
    public required int Lanes { get; init; }

    /// <summary>The kinds of disturbances to leave out.</summary>
    public required IReadOnlySet<string> Without { get; init; }

    /// <summary>The folder for the evidence and the report.</summary>
    public required string Folder { get; init; }
}
