namespace Bgsnap.Linux.Tests.Harness;

public enum QemuVersion
{
    /// <summary>Debian 12's own, 7.2.</summary>
    System,

    /// <summary>QEMU 10 of bookworm-backports, unpacked by hack/deps.</summary>
    Unpacked10,
}

public enum RamKind
{
    Anonymous,
    Memfd,
    Hugetlbfs,
}

public enum Accelerator
{
    Tcg,
    Kvm,
}

/// <summary>What runs in the machine.</summary>
public abstract record Guest;

/// <summary>tests/guests/init.c under Debian's cloud kernel; the parameters are explained there.</summary>
public sealed record LinuxGuest : Guest
{
    /// <summary>count, bench, rate, idle, disk or ext4.</summary>
    public string Mode { get; init; } = "count";

    /// <summary>The MiB of each writer's arena.</summary>
    public int MiB { get; init; } = 64;

    public int Writers { get; init; } = 1;

    /// <summary>zero or random; null: the mode's own.</summary>
    public string? Fill { get; init; }

    /// <summary>seq or random; null: the mode's own.</summary>
    public string? Order { get; init; }

    public bool HugePages { get; init; }

    /// <summary>Writes per second, in mode rate.</summary>
    public int? Rate { get; init; }

    public int? TickMilliseconds { get; init; }

    /// <summary>The number of disks that mode disk writes to in turn.</summary>
    public int? Disks { get; init; }

    /// <summary>The number of slots of each disk, and the KiB from one to the next.</summary>
    public int? Slots { get; init; }

    /// <inheritdoc cref="Slots"/>
    public int? StrideKiB { get; init; }

    /// <summary>The pause between two disk writes.</summary>
    public int? PauseMicroseconds { get; init; }

    /// <summary>Runs qemu-ga, in mode ext4.</summary>
    public bool Agent { get; init; }

    /// <summary>Loads the balloon driver; the device comes with <see cref="VirtualMachineOptions.ExtraArguments"/>.</summary>
    public bool Balloon { get; init; }

    /// <summary>
    /// The MiB that the guest gives back to its kernel, and allocates again, on <see cref="VirtualMachine.MoveSpareAsync"/>.
    /// </summary>
    public int? SpareMiB { get; init; }

    /// <summary>More words for the kernel's command line.</summary>
    public string Append { get; init; } = "";
}

/// <summary>tests/guests/bootsector.S: bare metal, the only guest that KVM boots on every host that we use.</summary>
public sealed record BootSectorGuest : Guest;

/// <summary>Only the firmware: for tests that never look into the guest.</summary>
public sealed record FirmwareGuest : Guest;

public sealed record VirtualMachineOptions
{
    /// <summary>libvirt's sandbox, as on the command line of a KubeVirt launcher's QEMU.</summary>
    public const string LauncherSandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

    public const int LauncherUid = 107;

    public QemuVersion Version { get; init; }

    /// <summary>Machine type, with properties if need be: "pc", "q35", "pc-i440fx-7.2".</summary>
    public string Machine { get; init; } = "pc";

    public int MemoryMiB { get; init; } = 256;

    public RamKind Ram { get; init; }

    /// <summary>Anonymous memory without a reservation, so that there may be more of it than the host has.</summary>
    public bool Overcommit { get; init; }

    public int Cpus { get; init; } = 1;

    public Accelerator Accelerator { get; init; }

    public Guest Guest { get; init; } = new LinuxGuest();

    /// <summary>QEMU's -incoming: "defer", "exec:cat file", ...</summary>
    public string? Incoming { get; init; }

    /// <summary>User and group of QEMU, with all capabilities dropped and no-new-privileges; null: root.</summary>
    public int? Uid { get; init; }

    /// <summary>QEMU's -sandbox.</summary>
    public string? Sandbox { get; init; }

    /// <summary>QEMU runs in its own mount and pid namespaces.</summary>
    public bool OwnNamespaces { get; init; }

    /// <summary>Starts with the vCPUs stopped (-S).</summary>
    public bool Paused { get; init; }

    public IReadOnlyList<TestDisk> Disks { get; init; } = [];

    /// <summary>The machine has a channel for the guest agent; see <see cref="QemuCommandLine.GuestAgentSocket"/>.</summary>
    public bool GuestAgent { get; init; }

    public IReadOnlyList<string> ExtraArguments { get; init; } = [];

    /// <summary>The time limit until the guest prints (or QMP answers, if QEMU waits for a stream).</summary>
    public TimeSpan StartTimeout { get; init; } = TimeSpan.FromSeconds(120);

    /// <summary>The same machine as in a KubeVirt launcher: unprivileged, sandboxed, in its own namespaces.</summary>
    public VirtualMachineOptions AsInLauncher() => this with { Uid = LauncherUid, Sandbox = LauncherSandbox, OwnNamespaces = true };

    public override string ToString() =>
        string.Create(
            System.Globalization.CultureInfo.InvariantCulture,
            $"{Version}/{Machine}/{Accelerator}/{Ram}/{MemoryMiB}MiB/{Cpus}cpu/{Guest.GetType().Name}"
                + $"{string.Concat(Disks.Select(d => $" {d}"))}"
        );
}
