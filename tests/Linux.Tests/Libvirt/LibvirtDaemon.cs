using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>
/// A libvirtd as in a KubeVirt launcher: uid 107, no capabilities, no new privileges, session mode, in its own mount, pid and uts
/// namespaces, with a loop that restarts it when it ends. libvirt's packages are mounted over /usr there, and nowhere else. It has its own
/// host name and UUID, so that another libvirtd regards it as another host to which domains can migrate.
/// </summary>
internal sealed class LibvirtDaemon : IAsyncDisposable
{
    // $0 is the folder, $1 libvirt's root, $2 the folder of QEMU's modules: those in /usr belong to another QEMU.
    private const string Setup = """
        set -e
        # Copies of other tests' mounts would keep their volumes in use.
        cut -d ' ' -f 5 /proc/self/mountinfo | grep /bgsnap-test- | grep -v "^$0/" | xargs -r umount -l 2>/dev/null || :
        basename "$0" > /proc/sys/kernel/hostname
        mount --bind "$0/passwd" /etc/passwd
        mount --bind "$0/group" /etc/group
        mount --bind "$0/run" /run
        mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr
        mount --bind "$2" /usr/lib/x86_64-linux-gnu/qemu
        exec setpriv --reuid=107 --regid=107 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all -- \
            env -i PATH=/usr/bin:/bin:/usr/sbin HOME=/run XDG_RUNTIME_DIR=/run XDG_CONFIG_HOME="$0/config" XDG_CACHE_HOME="$0/cache" \
            LIBVIRT_DRIVER_DIR=/usr/lib/x86_64-linux-gnu/libvirt/connection-driver \
            /bin/sh -c 'while :; do libvirtd --timeout 0; sleep 0.2; done'
        """;

    private readonly GuardedProcess _process;
    private readonly string _folder;

    private LibvirtDaemon(GuardedProcess process, string folder) => (_process, _folder) = (process, folder);

    /// <summary>The path of its socket in our mount namespace.</summary>
    public string Socket => Path.Combine(_folder, "run/libvirt/libvirt-sock");

    public string Uri => $"qemu+unix:///session?socket={Socket}";

    /// <summary>The output of libvirtd and its QEMUs.</summary>
    public string Log => _process.StandardOutput + _process.StandardError;

    public static string[] Needs =>
        [Path.Combine(TestFiles.Libvirt, "usr/sbin/libvirtd"), Path.Combine(TestFiles.Libvirt, "usr/bin/virsh")];

    /// <summary>Starts it in a folder and waits until it answers.</summary>
    public static async Task<LibvirtDaemon> StartAsync(string folder)
    {
        foreach (var name in (string[])["run/libvirt", "config/libvirt", "cache"])
            Directory.CreateDirectory(Path.Combine(folder, name));
        // The settings of KubeVirt's libvirtd: the sandbox, and no log daemon.
        await File.WriteAllTextAsync(
            Path.Combine(folder, "config/libvirt/qemu.conf"),
            "stdio_handler = \"file\"\nseccomp_sandbox = 1\nsecurity_driver = \"none\"\n"
        );
        await File.WriteAllTextAsync(Path.Combine(folder, "config/libvirt/libvirtd.conf"), $"host_uuid = \"{Guid.NewGuid()}\"\n");
        await File.WriteAllTextAsync(Path.Combine(folder, "passwd"), "root:x:0:0:root:/root:/bin/sh\nqemu:x:107:107::/run:/bin/sh\n");
        await File.WriteAllTextAsync(Path.Combine(folder, "group"), "root:x:0:\nqemu:x:107:\n");
        await Tool.RunAsync(
            "chown",
            "-R",
            "107:107",
            Path.Combine(folder, "run"),
            Path.Combine(folder, "config"),
            Path.Combine(folder, "cache")
        );
        var process = await GuardedProcess.StartAsync([
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            "/bin/sh",
            "-c",
            Setup,
            folder,
            TestFiles.Libvirt,
            Path.Combine(TestFiles.Deps, "qemu-10/usr/lib/x86_64-linux-gnu/qemu"),
        ]);
        LibvirtDaemon daemon = new(process, folder);
        try
        {
            await daemon.AnswersAsync();
            return daemon;
        }
        catch
        {
            await daemon.DisposeAsync();
            throw;
        }
    }

    /// <summary>The daemon's pid in our pid namespace.</summary>
    public async Task<int> PidAsync()
    {
        // unshare, the shell that loops, libvirtd.
        for (var i = 0; i < 2400; i++, await Task.Delay(25))
        {
            foreach (var shell in Children(_process.Pid))
            {
                foreach (var child in Children(shell))
                {
                    if (NameOf(child) == "libvirtd")
                        return child;
                }
            }
        }

        throw new TimeoutException($"No libvirtd.\n{Log}");
    }

    /// <summary>Kills libvirtd and waits until the restarted one answers.</summary>
    public async Task RestartAsync()
    {
        var before = await PidAsync();
        HarnessLibc.Kill(before, HarnessLibc.SigKill);
        while (await PidAsync() == before)
            await Task.Delay(10);
        await AnswersAsync();
    }

    /// <summary>Sends a QMP command to a domain's QEMU by libvirt's passthrough.</summary>
    public async Task<JsonElement> AskAsync(string domain, string command, string arguments = "{}")
    {
        var answer = await VirshAsync("qemu-monitor-command", domain, $$"""{"execute":"{{command}}","arguments":{{arguments}}}""");
        return JsonSerializer.Deserialize<JsonElement>(answer).GetProperty("return");
    }

    /// <summary>Runs virsh. It must succeed.</summary>
    public async Task<string> VirshAsync(params IEnumerable<string> arguments)
    {
        var (code, output) = await TryVirshAsync(arguments);
        return code == 0 ? output : throw new InvalidOperationException($"virsh {string.Join(' ', arguments)}: {output}\n{Log}");
    }

    public async Task<(int Code, string Output)> TryVirshAsync(params IEnumerable<string> arguments)
    {
        // Not guarded: virsh exits by itself, often before a guard could have reported its pid.
        ProcessStartInfo start = new(Path.Combine(TestFiles.Libvirt, "usr/bin/virsh"), ["-q", "-c", Uri, .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["LD_LIBRARY_PATH"] = Path.Combine(TestFiles.Libvirt, "usr/lib/x86_64-linux-gnu");
        using var virsh = Process.Start(start)!;
        Task<string> output = virsh.StandardOutput.ReadToEndAsync(),
            error = virsh.StandardError.ReadToEndAsync();
        await virsh.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(120));
        return (virsh.ExitCode, await output + await error);
    }

    /// <summary>Waits until libvirtd answers, after a start or a restart.</summary>
    public async Task AnswersAsync()
    {
        for (var i = 0; ; i++, await Task.Delay(50))
        {
            var (code, output) = File.Exists(Socket) ? await TryVirshAsync("uri") : (1, "no socket");
            if (code == 0)
                return;
            if (i == 1200 || _process.HasEnded)
                throw new TimeoutException($"libvirtd does not answer: {output}\n{Log}");
        }
    }

    public ValueTask DisposeAsync() => _process.DisposeAsync();

    private static IEnumerable<int> Children(int pid)
    {
        try
        {
            return
            [
                .. File.ReadAllText($"/proc/{pid}/task/{pid}/children")
                    .Split(' ', StringSplitOptions.RemoveEmptyEntries)
                    .Select(text => int.Parse(text, CultureInfo.InvariantCulture)),
            ];
        }
        catch (IOException)
        {
            return [];
        }
    }

    private static string NameOf(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/comm").Trim();
        }
        catch (IOException)
        {
            return "";
        }
    }
}
