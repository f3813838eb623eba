namespace Bgsnap.Storm;

/// <summary>What the storm is asked to do.</summary>
internal sealed record StormOptions
{
    /// <summary>All choices come from it and a round's number.</summary>
    public required ulong Seed { get; init; }

    /// <summary>No round begins after it.</summary>
    public required TimeSpan Time { get; init; }

    /// <summary>Only this round; null: one after another.</summary>
    public int? Round { get; init; }

    /// <summary>The first round's number.</summary>
    public int First { get; init; } = 1;

    /// <summary>Machines side by side.</summary>
    public required int Lanes { get; init; }

    /// <summary>Kinds of disturbances that are left out.</summary>
    public required IReadOnlySet<string> Without { get; init; }

    /// <summary>Where the evidence and the report go.</summary>
    public required string Folder { get; init; }
}
