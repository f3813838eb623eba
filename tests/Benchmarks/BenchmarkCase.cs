using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>A guest and what it does while it is captured.</summary>
internal sealed record BenchmarkCase(string Name, string What, int MemoryMiB, int WrittenMiB, string Mode)
{
    /// <summary>Short enough to see a stall of a fraction of a second, long enough that printing costs the guest nothing.</summary>
    internal const int TickMilliseconds = 100;

    internal string Machine { get; init; } = "pc";

    internal RamKind Ram { get; init; }

    internal int? Rate { get; init; }

    internal bool Writes => Mode != "idle";

    internal static IReadOnlyList<BenchmarkCase> All { get; } =
    [
        new("2g-1g", "2 GiB, 1 GiB of random data rewritten at full speed", 2048, 1024, "bench"),
        new("6g-4g", "6 GiB, 4 GiB of random data rewritten at full speed", 6144, 4096, "bench"),
        new("2g-idle", "2 GiB, 1 GiB of random data that is only read", 2048, 1024, "idle"),
        new("2g-memfd", "2 GiB in a shared memfd (q35), 1 GiB of random data rewritten at full speed", 2048, 1024, "bench")
        {
            Machine = "q35",
            Ram = RamKind.Memfd,
        },
        new("rate", "2 GiB, 20 thousand pages a second written over 1 GiB in random order", 2048, 1024, "rate") { Rate = 20_000 },
    ];

    internal VirtualMachineOptions Options(QemuVersion version) =>
        new()
        {
            Version = version,
            Machine = Machine,
            MemoryMiB = MemoryMiB,
            Ram = Ram,
            Guest = new LinuxGuest
            {
                Mode = Mode,
                MiB = WrittenMiB,
                Rate = Rate,
                Fill = "random",
                TickMilliseconds = TickMilliseconds,
            },
            StartTimeout = TimeSpan.FromMinutes(5),
        };
}
