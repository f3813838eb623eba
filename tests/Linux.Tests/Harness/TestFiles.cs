namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The paths of what the build produces: the agent, the guests, and what hack/deps fetched.</summary>
public static class TestFiles
{
    /// <summary>BGSNAP_OUT, or out/ of the repository that this assembly was built in.</summary>
    public static string Out { get; } =
        Environment.GetEnvironmentVariable("BGSNAP_OUT") is { Length: > 0 } chosen
            ? Path.GetFullPath(chosen)
            : Path.Combine(RepositoryRoot(), "out");

    public static string Deps { get; } =
        Environment.GetEnvironmentVariable("BGSNAP_DEPS") is { Length: > 0 } chosen ? Path.GetFullPath(chosen) : Path.Combine(Out, "deps");

    public static string Agent => Path.Combine(Out, "bgsnap-agent");

    public static string Kernel => Path.Combine(Deps, "vmlinuz");

    public static string Initramfs => Path.Combine(Out, "guests", "initramfs.cpio");

    /// <summary>The initramfs with qemu-ga.</summary>
    public static string InitramfsWithAgent => Path.Combine(Out, "guests", "initramfs-agent.cpio");

    public static string BootSector => Path.Combine(Out, "guests", "bootsector.img");

    /// <summary>libvirt of bookworm-backports, unpacked by hack/deps: a root directory.</summary>
    public static string Libvirt => Path.Combine(Deps, "libvirt");

    public static string Qemu(QemuVersion version) =>
        version switch
        {
            QemuVersion.System => "/usr/bin/qemu-system-x86_64",
            QemuVersion.Unpacked10 => Path.Combine(Deps, "qemu-10", "run"),
            _ => throw new ArgumentOutOfRangeException(nameof(version)),
        };

    /// <summary>What a virtual machine with these options needs and this host lacks, with the remedy; null if nothing is missing.</summary>
    public static string? Missing(VirtualMachineOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (!File.Exists(Qemu(options.Version)))
            return $"{Qemu(options.Version)} is missing: run hack/deps";
        return options.Guest switch
        {
            LinuxGuest when !File.Exists(Kernel) => $"{Kernel} is missing: run hack/deps",
            LinuxGuest { Agent: true } when !File.Exists(InitramfsWithAgent) =>
                $"{InitramfsWithAgent} is missing: run hack/deps and make -C tests/guests",
            LinuxGuest when !File.Exists(Initramfs) => $"{Initramfs} is missing: run make -C tests/guests",
            BootSectorGuest when !File.Exists(BootSector) => $"{BootSector} is missing: run make -C tests/guests",
            _ => null,
        };
    }

    private static string RepositoryRoot()
    {
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "bgsnap.slnx")))
                return at.FullName;
        }

        throw new InvalidOperationException($"No repository above {AppContext.BaseDirectory}: set BGSNAP_OUT.");
    }
}
