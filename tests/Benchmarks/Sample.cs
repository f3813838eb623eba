using System.Text.Json;

namespace Bgsnap.Benchmarks;

/// <summary>One capture of one peer as it was measured; null where something could not be.</summary>
internal sealed record Sample
{
    public required string Case { get; init; }
    public required string Peer { get; init; }

    /// <summary>0 is the warm-up, which does not count.</summary>
    public required int Round { get; init; }

    /// <summary>QEMU's STOP to its RESUME, by QEMU's own clock.</summary>
    public double? DowntimeMilliseconds { get; init; }

    /// <summary>From the point in time until nothing was protected any more.</summary>
    public double? WindowSeconds { get; init; }

    /// <summary>From the start of the command until everything was durable, as seen from here.</summary>
    public double? TotalSeconds { get; init; }

    /// <summary>Page writes a second in the three seconds before.</summary>
    public double? RateBefore { get; init; }

    /// <summary>The second with the fewest writes, from the start until two seconds after the end, as a share of the rate before.</summary>
    public double? WorstSecondShare { get; init; }

    /// <summary>The guest's own longest time between two writes, its stop window excluded.</summary>
    public double? LongestStallMilliseconds { get; init; }

    /// <summary>The same in the three seconds before: what the machine and the guest cost without a capture.</summary>
    public double? StallBeforeMilliseconds { get; init; }

    /// <summary>99th percentile of write latency in the worst of the guest's seconds that overlap the capture.</summary>
    public double? P99Microseconds { get; init; }

    /// <summary>The same in the seconds before.</summary>
    public double? P99BeforeMicroseconds { get; init; }

    /// <summary>Writes that the fixed-rate guest had to leave out because it was late.</summary>
    public double? SkippedWrites { get; init; }

    public double? StoredBytes { get; init; }
    public double? HugeBytesBefore { get; init; }
    public double? HugeBytesAfter { get; init; }

    /// <summary>Of the agent and of QEMU's threads that are not vCPUs.</summary>
    public double? CpuSeconds { get; init; }

    /// <summary>Of it, the agent's.</summary>
    public double? AgentCpuSeconds { get; init; }

    public double? PeakMemoryBytes { get; init; }

    /// <summary>Protection faults as the agent counted them.</summary>
    public double? Faults { get; init; }

    /// <summary>The longest that a write of the guest waited for us, as the agent measured it.</summary>
    public double? LongestFaultMilliseconds { get; init; }

    /// <summary>Pages that the guest found corrupt since it began.</summary>
    public double? CorruptPages { get; init; }

    /// <summary>The agent's own steps, microseconds after its start.</summary>
    public JsonElement? Timeline { get; init; }

    /// <summary>What went wrong.</summary>
    public string? Note { get; init; }

    public double? HugeKept => HugeBytesBefore is > 0 ? HugeBytesAfter / HugeBytesBefore : null;
}

/// <summary>What a peer itself knows of a capture.</summary>
internal sealed record PeerResult
{
    public double? WindowSeconds { get; init; }
    public double? StoredBytes { get; init; }
    public double? PeakMemoryBytes { get; init; }
    public double? Faults { get; init; }

    /// <summary>The longest that a write of the guest waited for us, as the agent measured it.</summary>
    public double? LongestFaultMilliseconds { get; init; }
    public JsonElement? Timeline { get; init; }
}
