using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Benchmarks;

/// <summary>What the guest of an instant restore does, and how much of its RAM it has ever touched.</summary>
/// <param name="Name">As on the command line and in the table.</param>
/// <param name="What">In words.</param>
/// <param name="Sizes">MiB of RAM that it is measured with, unless others are asked for.</param>
/// <param name="TouchedMiB">How much of so many MiB of RAM it touches, about.</param>
/// <param name="Guest">The guest in so many MiB of RAM.</param>
internal sealed record InstantGuest(string Name, string What, int[] Sizes, Func<int, int> TouchedMiB, Func<int, Guest> Guest)
{
    private const int TickMilliseconds = 20,
        SparseMiB = 1024,
        IdleRate = 200,
        BootSectorMiB = 100,
        KernelMiB = 64;

    internal static readonly IReadOnlyList<InstantGuest> All =
    [
        new("busy", "checks and changes half of its RAM, noise, at full speed", [2048, 6144], Half, memory => new LinuxGuest
        {
            Mode = "count",
            MiB = memory / 2,
            Fill = "random",
            TickMilliseconds = TickMilliseconds,
        }),
        new("idle", $"the same noise, of which it changes {IdleRate} pages a second anywhere", [2048, 6144], Half, memory => new LinuxGuest
        {
            Mode = "rate",
            MiB = memory / 2,
            Fill = "random",
            Rate = IdleRate,
            TickMilliseconds = TickMilliseconds,
        }),
        new(
            "sparse",
            $"busy in {SparseMiB} MiB of noise, whatever its RAM; the rest was never touched",
            [65536],
            _ => SparseMiB + KernelMiB,
            _ => new LinuxGuest
            {
                Mode = "count",
                MiB = SparseMiB,
                Fill = "random",
                TickMilliseconds = TickMilliseconds,
            }
        ),
        new(
            "kvm",
            $"under KVM, no Linux but a boot sector, busy in {BootSectorMiB} MiB; it tells of its passes, not of its rate",
            [2048],
            _ => BootSectorMiB,
            _ => new BootSectorGuest()
        ),
    ];

    internal Accelerator Accelerator => Name == "kvm" ? Accelerator.Kvm : Accelerator.Tcg;

    /// <summary>More RAM than the machine has, which the guest never touches.</summary>
    internal bool Overcommits => Name == "sparse";

    /// <summary>Why it cannot be measured here; null: it can.</summary>
    /// <param name="memoryMiB">Its RAM.</param>
    /// <param name="folder">Where its snapshot and the exported stream of that are written.</param>
    internal string? Impossible(int memoryMiB, string folder)
    {
        const long MiB = 1 << 20;
        if (Accelerator == Accelerator.Kvm && !File.Exists("/dev/kvm"))
            return "no /dev/kvm";
        // The files lie in the page cache beside the guest, where they are to be hot.
        long touched = TouchedMiB(memoryMiB) * MiB,
            memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
            room = new DriveInfo(folder).AvailableFreeSpace;
        return 3 * touched > memory ? $"the guest and both files need {3 * touched / MiB} MiB of memory, there are {memory / MiB}"
            : 2 * touched > room ? $"both files need {2 * touched / MiB} MiB of disk, there are {room / MiB}"
            : null;
    }

    private static int Half(int memoryMiB) => memoryMiB / 2 + KernelMiB;
}
