using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The command line of a test machine, and the programs that start it with other rights.</summary>
public static class QemuCommandLine
{
    /// <summary>Parameters that shorten the boot of Debian's kernel under TCG from 3.3 to 2.2 seconds.</summary>
    private const string QuickBoot =
        "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off cryptomgr.notests ipv6.disable=1 i8042.noaux "
        + "i8042.nokbd 8250.nr_uarts=1 no_timer_check tsc=reliable random.trust_cpu=on";

    /// <summary>
    /// A shell's program for a new mount namespace: unmounts the copies of other tests' mounts, which would keep their volumes in use, then
    /// becomes the program of its arguments. $0 is the directory whose mounts stay.
    /// </summary>
    private const string ForgetMounts = """
        cut -d ' ' -f 5 /proc/self/mountinfo | grep /bgsnap-test- | grep -v "^$0/" | xargs -r umount -l 2>/dev/null
        exec "$@"
        """;

    /// <param name="options">The machine.</param>
    /// <param name="directory">Its temporary directory, which contains its sockets.</param>
    public static IReadOnlyList<string> Build(VirtualMachineOptions options, string directory)
    {
        ArgumentNullException.ThrowIfNull(options);
        List<string> line = [];
        if (options.OwnNamespaces)
            line.AddRange(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", ForgetMounts, directory]);
        if (options.Uid is { } uid)
        {
            line.AddRange([
                "setpriv",
                $"--reuid={Text(uid)}",
                $"--regid={Text(uid)}",
                "--clear-groups",
                "--no-new-privs",
                "--inh-caps=-all",
                "--bounding-set=-all",
                "--",
            ]);
        }

        line.AddRange([
            TestFiles.Qemu(options.Version),
            "-name",
            "guest=bgsnap-test,debug-threads=on",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-m",
            $"{Text(options.MemoryMiB)}M",
            "-smp",
            Text(options.Cpus),
            "-accel",
            options.Accelerator == Accelerator.Kvm ? "kvm" : "tcg",
            "-chardev",
            $"socket,id=serial,path={SerialSocket(directory)}",
            "-serial",
            "chardev:serial",
            "-qmp",
            $"unix:{QmpSocket(directory)},server=on,wait=off",
            "-qmp",
            $"unix:{HarnessSocket(directory)},server=on,wait=off",
        ]);
        line.AddRange(Memory(options, directory));
        line.AddRange(GuestArguments(options.Guest));
        line.AddRange(DiskCommandLine.Build(options, directory).SelectMany(option => option.Split('=', 2)));
        if (options.Sandbox is { } sandbox)
            line.AddRange(["-sandbox", sandbox]);
        if (options.Incoming is { } incoming)
            line.AddRange(["-incoming", incoming]);
        if (options.Paused)
            line.Add("-S");
        line.AddRange(options.ExtraArguments);
        return line;
    }

    public static string SerialSocket(string directory) => Path.Combine(directory, "serial");

    /// <summary>The socket at the host's end of the guest agent's channel.</summary>
    public static string GuestAgentSocket(string directory) => Path.Combine(directory, "guest-agent");

    public static string QmpSocket(string directory) => Path.Combine(directory, "qmp");

    public static string HarnessSocket(string directory) => Path.Combine(directory, "harness-qmp");

    public static string HugetlbfsMount(string directory) => Path.Combine(directory, "huge");

    private static string[] Memory(VirtualMachineOptions options, string directory)
    {
        var size = Text(options.MemoryMiB);
        return options.Ram switch
        {
            RamKind.Anonymous when options.Overcommit =>
            [
                "-object",
                $"memory-backend-ram,id=mem,size={size}M,reserve=off",
                "-machine",
                $"{options.Machine},memory-backend=mem",
            ],
            RamKind.Anonymous => ["-machine", options.Machine],
            RamKind.Memfd =>
            [
                "-object",
                $"memory-backend-memfd,id=mem,size={size}M,share=on",
                "-machine",
                $"{options.Machine},memory-backend=mem",
            ],
            RamKind.Hugetlbfs =>
            [
                "-object",
                $"memory-backend-file,id=mem,size={size}M,share=on,mem-path={HugetlbfsMount(directory)}",
                "-machine",
                $"{options.Machine},memory-backend=mem",
            ],
            _ => throw new ArgumentOutOfRangeException(nameof(options)),
        };
    }

    private static string[] GuestArguments(Guest guest) =>
        guest switch
        {
            LinuxGuest linux =>
            [
                "-kernel",
                TestFiles.Kernel,
                "-initrd",
                linux.Agent ? TestFiles.InitramfsWithAgent : TestFiles.Initramfs,
                "-append",
                KernelCommandLine(linux),
            ],
            BootSectorGuest => ["-drive", $"file={TestFiles.BootSector},format=raw,if=virtio,readonly=on"],
            _ => [],
        };

    /// <summary>The kernel's command line, through which the guest's program gets its parameters too.</summary>
    internal static string KernelCommandLine(LinuxGuest guest)
    {
        List<string> words =
        [
            QuickBoot,
            $"bgsnap.mode={guest.Mode}",
            $"bgsnap.mib={Text(guest.MiB)}",
            $"bgsnap.writers={Text(guest.Writers)}",
        ];
        if (guest.Fill is { } fill)
            words.Add($"bgsnap.fill={fill}");
        if (guest.Order is { } order)
            words.Add($"bgsnap.order={order}");
        if (guest.HugePages)
            words.Add("bgsnap.huge=1");
        if (guest.Rate is { } rate)
            words.Add($"bgsnap.rate={Text(rate)}");
        if (guest.TickMilliseconds is { } tick)
            words.Add($"bgsnap.tick={Text(tick)}");
        Add("disks", guest.Disks);
        Add("slots", guest.Slots);
        Add("stride", guest.StrideKiB);
        Add("pause", guest.PauseMicroseconds);
        Add("balloon", guest.Balloon ? 1 : null);
        Add("spare", guest.SpareMiB);
        Add("agent", guest.Agent ? 1 : null);
        if (guest.Append.Length > 0)
            words.Add(guest.Append);
        return string.Join(' ', words);

        void Add(string name, int? value)
        {
            if (value is { } number)
                words.Add($"bgsnap.{name}={Text(number)}");
        }
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
