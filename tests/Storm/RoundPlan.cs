using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>Everything that a round will do, drawn before it begins.</summary>
internal sealed record RoundPlan
{
    /// <summary>The MiB that the guest needs besides its writers' arenas.</summary>
    private const int GuestNeedsMiB = 96;

    private const int SpareMiB = 32;

    public required int Number { get; init; }

    public required VirtualMachineOptions Machine { get; init; }

    public required int Writers { get; init; }

    public required bool HasBalloon { get; init; }

    public required bool Reports { get; init; }

    /// <summary>Whether memory and a disk may be plugged in.</summary>
    public required bool Pluggable { get; init; }

    public required bool Ksm { get; init; }

    public required IReadOnlyList<CapturePlan> Captures { get; init; }

    public required RestorePlan Restore { get; init; }

    public override string ToString() =>
        $"{Short}; {string.Join("; ", Captures.Select((c, i) => Invariant($"capture {i}: {c}")))}; {Restore}";

    /// <summary>A short description of the machine.</summary>
    public string Short =>
        Machine.ToString().Replace("/LinuxGuest", "", StringComparison.Ordinal)
        + Invariant($"/{Writers}x{((LinuxGuest)Machine.Guest).MiB}MiB")
        + (((LinuxGuest)Machine.Guest).HugePages ? "/huge" : "")
        + (Machine.Overcommit ? "/unreserved" : "")
        + (Machine.Uid is null ? "" : "/launcher")
        + (
            HasBalloon
                ? Reports
                    ? "/reporting"
                    : "/balloon"
                : ""
        )
        + (Pluggable ? "/pluggable" : "")
        + (Ksm ? "/ksm" : "");

    /// <param name="seed">The storm's seed.</param>
    /// <param name="number">The round's number.</param>
    /// <param name="without">Names of <see cref="DisturbanceKind"/>, or <c>ksm</c>, <c>qemu</c>, <c>hooks</c>, to leave out.</param>
    public static RoundPlan Draw(ulong seed, int number, IReadOnlySet<string> without)
    {
        Dice dice = new(seed, number);
        var version = dice.Of(QemuVersion.System, QemuVersion.Unpacked10);
        var machine = dice.Of("pc", "q35");
        var ram = dice.Of(RamKind.Anonymous, RamKind.Anonymous, RamKind.Anonymous, RamKind.Memfd, RamKind.Memfd, RamKind.Hugetlbfs);
        var disks = dice.Chance(0.4) ? [] : DrawDisks(dice, version, machine);
        var balloon = dice.Chance(0.4);
        var reports = balloon && dice.Chance(0.4);
        var pluggable = dice.Chance(0.3);
        var ksm = dice.Chance(0.1) && ram == RamKind.Anonymous && !without.Contains("ksm");
        var memory = 32 * dice.Between(6, 12);
        var writers = dice.Between(1, 4);
        var forArenas = memory - GuestNeedsMiB - (balloon ? SpareMiB : 0);
        VirtualMachineOptions options = new()
        {
            Version = version,
            Machine = machine,
            Ram = ram,
            Overcommit = ram == RamKind.Anonymous && dice.Chance(0.2),
            MemoryMiB = memory,
            Cpus = dice.Between(1, 4),
            Disks = disks,
            Guest = new LinuxGuest
            {
                Mode = disks.Count > 0 ? "disk" : "count",
                Disks = disks.Count > 0 ? disks.Count : null,
                PauseMicroseconds = disks.Count > 0 ? dice.Of(0, 0, 500) : null,
                Writers = writers,
                MiB = Math.Max(4, (int)(forArenas * (0.3 + 0.6 * dice.Share())) / writers),
                Fill = dice.Of("random", "zero"),
                Order = dice.Of("seq", "random"),
                HugePages = dice.Chance(0.3),
                TickMilliseconds = 100,
                Balloon = balloon,
                SpareMiB = balloon ? SpareMiB : null,
                // In a machine that may get memory above 4 GiB, Linux would reserve 64 MiB of bounce buffers.
                Append = $"{(balloon ? "init_on_alloc=0 " : "")}{(pluggable ? "swiotlb=noforce" : "")}".Trim(),
            },
            ExtraArguments =
            [
                .. balloon ? ["-device", BalloonDevice(reports)] : Array.Empty<string>(),
                .. pluggable ? Plugs.Arguments(machine) : [],
            ],
            StartTimeout = TimeSpan.FromSeconds(120),
        };
        if (dice.Chance(0.15))
            options = options.AsInLauncher();
        List<CapturePlan> captures = [];
        for (var count = dice.Between(2, 5); captures.Count < count; )
            captures.Add(CaptureDice.Draw(dice, options, balloon, pluggable, ksm, without));
        return new()
        {
            Number = number,
            Machine = options,
            Writers = writers,
            HasBalloon = balloon,
            Reports = reports,
            Pluggable = pluggable,
            Ksm = ksm,
            Captures = captures,
            Restore = DrawRestore(dice),
        };
    }

    private static string BalloonDevice(bool reports) => $"virtio-balloon-pci,id=balloon{(reports ? ",free-page-reporting=on" : "")}";

    private static List<TestDisk> DrawDisks(Dice dice, QemuVersion version, string machine)
    {
        List<TestDisk> disks = [];
        for (var count = dice.Between(1, 2); disks.Count < count; )
        {
            // At most one scsi disk: Linux names them in the order in which their probes happen to finish.
            var scsi = dice.Chance(0.25) && !disks.Exists(d => d.Bus == DiskBus.VirtioScsi);
            disks.Add(
                new()
                {
                    // The guest sorts its disks by these names.
                    Name = (scsi ? "sd" : "vd") + (char)('a' + disks.Count(d => d.Bus == DiskBus.VirtioScsi == scsi)),
                    Format = dice.Of(DiskFormat.Raw, DiskFormat.Qcow2),
                    Bus = scsi ? DiskBus.VirtioScsi : DiskBus.VirtioBlk,
                    Arguments = dice.Of(DiskArguments.Blockdev, DiskArguments.Drive),
                    IsBlockDevice = dice.Chance(0.15),
                    IoThread = version == QemuVersion.Unpacked10 && dice.Chance(0.05),
                    IsFull = dice.Chance(0.4),
                    MiB = dice.Of(16, 48),
                }
            );
        }

        return disks;
    }

    private static RestorePlan DrawRestore(Dice dice)
    {
        var mode = dice.Of("stream", "instant", "instant", "eager");
        var disturbance =
            dice.Chance(0.5) ? RestoreDisturbance.Quiet
            : mode == "instant" ? dice.Of(Enum.GetValues<RestoreDisturbance>())
            : dice.Of(RestoreDisturbance.KillBoth, RestoreDisturbance.Cancel);
        var limit = mode == "instant" && dice.Chance(0.6) ? dice.Of(20, 60, 200) : 0;
        return new RestorePlan(mode, limit, disturbance, dice.Share());
    }
}
