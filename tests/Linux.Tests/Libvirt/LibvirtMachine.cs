using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>A domain that runs the test guest, in its own libvirtd. Disposing it leaves nothing behind.</summary>
internal sealed class LibvirtMachine : IAsyncDisposable
{
    /// <summary>KubeVirt's naming: namespace, underscore, name.</summary>
    public const string Name = "prod_db";

    private readonly SerialConsole _serial;
    private TestDisks? _disks;
    private LibvirtDaemon? _daemon;

    private LibvirtMachine(VirtualMachineOptions options)
    {
        Options = options;
        Folder = TestFolder.Create();
        _serial = new SerialConsole(QemuCommandLine.SerialSocket(Folder));
    }

    public VirtualMachineOptions Options { get; }

    public string Folder { get; }

    public string Outputs => Path.Combine(Folder, "outputs");

    public Guid Uuid { get; } = Guid.NewGuid();

    public int Pid { get; private set; }

    public SerialConsole Serial => _serial;

    public LibvirtDaemon Daemon => _daemon ?? throw new InvalidOperationException("The machine has not started.");

    /// <summary>
    /// Starts a domain with this memory and these disks and waits until its guest counts; skips the test where the host cannot run it.
    /// </summary>
    /// <param name="options">Memory, disks and guest.</param>
    /// <param name="arguments">Additional QEMU arguments. With <c>-incoming</c> the method does not wait for the guest.</param>
    public static async Task<LibvirtMachine> StartAsync(VirtualMachineOptions options, params IReadOnlyList<string> arguments)
    {
        Requirements.Need(options);
        Requirements.NeedUserfaultfd();
        foreach (var program in LibvirtDaemon.Needs)
            Requirements.NeedProgram(program);
        LibvirtMachine machine = new(options);
        try
        {
            await machine.StartAsync(arguments);
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <summary>Sends a QMP command by libvirt's passthrough.</summary>
    public Task<JsonElement> AskAsync(string command, string arguments = "{}") => Daemon.AskAsync(Name, command, arguments);

    /// <summary>libvirt's state of the domain with its reason, such as "running (unpaused)".</summary>
    public Task<string> StateAsync() => StateAsync(Daemon);

    /// <summary>
    /// Asserts that the guest counts from now on and finds its memory intact, and that libvirt and QEMU say that it runs.
    /// </summary>
    public Task CountsOnAsync(string after) => CountsOnAsync(Daemon, _serial, after);

    /// <summary>Asserts the same of a domain in any libvirtd.</summary>
    public static async Task<GuestReport> CountsOnAsync(LibvirtDaemon daemon, SerialConsole serial, string after)
    {
        var began = Stopwatch.GetTimestamp();
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(120));
        GuestReport? report = null;
        try
        {
            report = await serial.WaitForReportAsync(r => r.At > began, limit.Token);
            Assert.True(report.Corrupt == 0, $"{after}: {report}");
        }
        catch (OperationCanceledException)
        {
            Assert.Fail($"{after}: the guest does not count, {await StateAsync(daemon)}.\n{daemon.Log}");
        }

        Assert.True((await daemon.AskAsync(Name, "query-status")).GetProperty("status").GetString() == "running", after);
        var state = await StateAsync(daemon);
        Assert.True(state.StartsWith("running", StringComparison.Ordinal), $"{after}: {state}");
        return report!;
    }

    public async ValueTask DisposeAsync()
    {
        if (_daemon is not null)
            await _daemon.DisposeAsync();
        _serial.Dispose();
        _disks?.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    private async Task StartAsync(IReadOnlyList<string> arguments)
    {
        Directory.CreateDirectory(Outputs);
        _disks = await TestDisks.CreateAsync(Options with { Uid = VirtualMachineOptions.LauncherUid }, Folder);
        _daemon = await LibvirtDaemon.StartAsync(Folder);
        var xml = Path.Combine(Folder, "domain.xml");
        await File.WriteAllTextAsync(xml, DomainXml.Of(Options, Name, Uuid, Folder, arguments));
        await _daemon.VirshAsync("create", xml);
        Pid = Directory
            .EnumerateDirectories("/proc")
            .Select(p => int.TryParse(Path.GetFileName(p), CultureInfo.InvariantCulture, out var pid) ? pid : 0)
            .Single(p => p != 0 && IsOurs(p));
        if (arguments.Contains("-incoming"))
            return;
        using CancellationTokenSource limit = new(Options.StartTimeout);
        await _serial.WaitForReportAsync(r => r.Tick >= 3, limit.Token);
    }

    private static async Task<string> StateAsync(LibvirtDaemon daemon) => (await daemon.VirshAsync("domstate", Name, "--reason")).Trim();

    private bool IsOurs(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/cmdline").Contains($"-uuid\0{Uuid}\0", StringComparison.Ordinal);
        }
        catch (IOException)
        {
            return false;
        }
    }
}
