using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>What the guest of an instant restore does, and how much of its RAM it has ever touched.</summary>
/// <param name="Name">As on the command line and in the table.</param>
/// <param name="What">In words.</param>
/// <param name="Guest">The guest in so many MiB of RAM.</param>
internal sealed record InstantGuest(string Name, string What, Func<int, LinuxGuest> Guest)
{
    private const int TickMilliseconds = 20, SparseMiB = 1024, IdleRate = 200;

    internal static readonly IReadOnlyList<InstantGuest> All =
    [
        new("busy", "checks and changes half of its RAM, noise, at full speed",
            memory => new LinuxGuest { Mode = "count", MiB = memory / 2, Fill = "random", TickMilliseconds = TickMilliseconds }),
        new("idle", $"the same noise, of which it changes {IdleRate} pages a second anywhere",
            memory => new LinuxGuest { Mode = "rate", MiB = memory / 2, Fill = "random", Rate = IdleRate, TickMilliseconds = TickMilliseconds }),
        new("sparse", $"busy in {SparseMiB} MiB of noise, whatever its RAM; the rest was never touched",
            _ => new LinuxGuest { Mode = "count", MiB = SparseMiB, Fill = "random", TickMilliseconds = TickMilliseconds }),
    ];
}
