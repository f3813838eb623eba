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

    /// <summary>MiB of each writer's arena.</summary>
    public int MiB { get; init; } = 64;

    public int Writers { get; init; } = 1;

    /// <summary>zero or random; null: the mode's own.</summary>
    public string? Fill { get; init; }

    /// <summary>seq or random; null: the mode's own.</summary>
    public string? Order { get; init; }

    public bool HugePages { get; init; }

    /// <summary>Writes a second, of mode rate.</summary>
    public int? Rate { get; init; }

    public int? TickMilliseconds { get; init; }

    /// <summary>Disks that mode disk writes to, in turn.</summary>
    public int? Disks { get; init; }

    /// <summary>Slots of each disk, and the KiB between two.</summary>
    public int? Slots { get; init; }

    /// <inheritdoc cref="Slots"/>
    public int? StrideKiB { get; init; }

    /// <summary>Between two writes to disks.</summary>
    public int? PauseMicroseconds { get; init; }

    /// <summary>Runs qemu-ga, in mode ext4.</summary>
    public bool Agent { get; init; }

    /// <summary>With the driver of a balloon; the device comes with <see cref="VirtualMachineOptions.ExtraArguments"/>.</summary>
    public bool Balloon { get; init; }

    /// <summary>MiB that it gives back to its kernel, and takes again, by <see cref="VirtualMachine.MoveSpareAsync"/>.</summary>
    public int? SpareMiB { get; init; }

    /// <summary>More words for the kernel's command line.</summary>
    public string Append { get; init; } = "";
}

/// <summary>tests/guests/bootsector.S: bare metal, the only guest that KVM boots on every machine of ours.</summary>
public sealed record BootSectorGuest : Guest;

/// <summary>Only the firmware: a machine for tests that never look into it.</summary>
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

    /// <summary>Anonymous memory for which nothing is reserved, so that there may be more of it than the machine has.</summary>
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

    /// <summary>In mount and pid namespaces of its own.</summary>
    public bool OwnNamespaces { get; init; }

    /// <summary>Starts with the vCPUs stopped (-S).</summary>
    public bool Paused { get; init; }

    public IReadOnlyList<TestDisk> Disks { get; init; } = [];

    /// <summary>With a channel for the guest agent; see <see cref="QemuCommandLine.GuestAgentSocket"/>.</summary>
    public bool GuestAgent { get; init; }

    public IReadOnlyList<string> ExtraArguments { get; init; } = [];

    /// <summary>How long the machine may take until its guest prints (or QMP answers, when it waits for a stream).</summary>
    public TimeSpan StartTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The same machine as in a KubeVirt launcher: unprivileged, sandboxed, in namespaces of its own.</summary>
    public VirtualMachineOptions AsInLauncher() => this with { Uid = LauncherUid, Sandbox = LauncherSandbox, OwnNamespaces = true };

    public override string ToString() =>
        string.Create(
            System.Globalization.CultureInfo.InvariantCulture,
            $"{Version}/{Machine}/{Accelerator}/{Ram}/{MemoryMiB}MiB/{Cpus}cpu/{Guest.GetType().Name}"
                + $"{string.Concat(Disks.Select(d => $" {d}"))}"
        );
}
