using System.Globalization;
using System.Text.Json.Nodes;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// A running QEMU with a test guest, in its own temporary directory. Disposing it leaves nothing behind: no process, no directory, no huge
/// page. Nor does a start that fails.
/// </summary>
public sealed class VirtualMachine : IAsyncDisposable
{
    private readonly SerialConsole _serial;
    private HugePageReservation? _hugePages;
    private TestDisks? _disks;
    private GuardedProcess? _process;
    private HarnessQmp? _qmp;

    private VirtualMachine(VirtualMachineOptions options)
    {
        Options = options;
        Folder = TestFolder.Create();
        _serial = new SerialConsole(QemuCommandLine.SerialSocket(Folder));
    }

    public VirtualMachineOptions Options { get; }

    /// <summary>The machine's temporary directory; tests may put files in it.</summary>
    public string Folder { get; }

    /// <summary>QEMU's own pid, as we see it.</summary>
    public int Pid { get; private set; }

    /// <summary>The QMP socket for the agent under test; nothing else connects to it.</summary>
    public string QmpSocket => QemuCommandLine.QmpSocket(Folder);

    /// <summary>The unix socket of the guest agent's channel.</summary>
    public string GuestAgentSocket => QemuCommandLine.GuestAgentSocket(Folder);

    /// <summary>The image file of a disk, by its name.</summary>
    public string ImageOf(string disk) => TestDisks.ImageOf(Options.Disks.Single(d => d.Name == disk), Folder);

    /// <summary>The harness's connection, on a separate socket.</summary>
    public HarnessQmp Qmp => _qmp ?? throw new InvalidOperationException("The machine has not started.");

    public SerialConsole Serial => _serial;

    public GuestReport? LatestReport => _serial.LatestReport;

    public bool HasExited => _process?.HasEnded ?? true;

    /// <summary>What QEMU printed.</summary>
    public string QemuOutput => _process is null ? "" : _process.StandardOutput + _process.StandardError;

    /// <summary>
    /// Starts QEMU and waits until its guest counts. If the machine waits for a stream, is paused or has no guest, waits until QMP answers.
    /// </summary>
    public static async Task<VirtualMachine> StartAsync(VirtualMachineOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (TestFiles.Missing(options) is { } missing)
            throw new FileNotFoundException(missing);
        for (var last = false; ; last = true)
        {
            var machine = new VirtualMachine(options);
            try
            {
                await machine.StartAsync().ConfigureAwait(false);
                return machine;
            }
            catch (TimeoutException) when (!last && machine._serial.Lines.All(string.IsNullOrWhiteSpace))
            {
                // Under TCG, a guest with several vCPUs sometimes never prints its first line, before the agent has touched it: start
                // another one.
                await machine.DisposeAsync().ConfigureAwait(false);
            }
            catch
            {
                await machine.DisposeAsync().ConfigureAwait(false);
                throw;
            }
        }
    }

    /// <summary>The first report with this tick or a later one.</summary>
    public Task<GuestReport> WaitForTickAsync(long tick, TimeSpan? timeout = null) =>
        WaitForReportAsync(report => report.Tick >= tick, $"tick {tick}", timeout);

    /// <summary>The report that is <paramref name="more"/> ticks after the latest one: shows that the guest lives.</summary>
    public Task<GuestReport> WaitForMoreTicksAsync(int more, TimeSpan? timeout = null) =>
        WaitForTickAsync((LatestReport?.Tick ?? 0) + more, timeout);

    /// <summary>The first report for which the condition holds, among those seen and those to come.</summary>
    public async Task<GuestReport> WaitForReportAsync(Func<GuestReport, bool> condition, string what, TimeSpan? timeout = null)
    {
        var limit = timeout ?? TimeSpan.FromSeconds(90);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(_process!.Ended);
        either.CancelAfter(limit);
        try
        {
            return await _serial.WaitForReportAsync(condition, either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            throw new TimeoutException(
                HasExited ? $"QEMU ended before {what}.\n{Describe()}" : $"No {what} within {limit.TotalSeconds} s.\n{Describe()}"
            );
        }
    }

    /// <summary>
    /// Makes the guest give its spare memory back to its kernel, or allocate it again, and waits until the guest reports <c>given</c> or
    /// <c>taken</c>.
    /// </summary>
    public async Task MoveSpareAsync(string now)
    {
        var before = Said();
        _serial.MoveSpare();
        for (var end = DateTime.UtcNow + TimeSpan.FromSeconds(90); Said() == before; await Task.Delay(20).ConfigureAwait(false))
        {
            if (DateTime.UtcNow > end)
                throw new TimeoutException($"The guest's spare memory was not {now}.\n{Describe()}");
        }

        int Said() => _serial.Lines.Count(l => l.Contains($"spare={now}", StringComparison.Ordinal));
    }

    /// <summary>
    /// Waits until the guest has printed nothing for this time: lines that it printed before it was stopped may still arrive.
    /// </summary>
    public async Task WaitForSilenceAsync(TimeSpan length)
    {
        const int Tries = 10;
        var before = -1;
        for (var i = 0; before != _serial.Reports.Count; i++)
        {
            if (i == Tries)
                throw new TimeoutException($"The guest counts on.\n{Describe()}");
            before = _serial.Reports.Count;
            await Task.Delay(length).ConfigureAwait(false);
        }
    }

    public Task StopVcpusAsync() => Qmp.ExecuteAsync("stop");

    public Task ContinueVcpusAsync() => Qmp.ExecuteAsync("cont");

    /// <summary>
    /// Makes QEMU write the guest's physical memory to a file in <see cref="Folder"/>; while the machine is stopped, that file is the
    /// reference.
    /// </summary>
    public async Task<string> DumpMemoryAsync(string name = "truth")
    {
        var path = Path.Combine(Folder, name);
        await Qmp.ExecuteAsync(
                "pmemsave",
                new JsonObject
                {
                    ["val"] = 0,
                    ["size"] = (long)Options.MemoryMiB << 20,
                    ["filename"] = path,
                }
            )
            .ConfigureAwait(false);
        return path;
    }

    /// <summary>The guest's memory inside QEMU's process (machines of up to 2 GiB: the RAM below 4 GiB).</summary>
    public async Task<GuestMemory> OpenMemoryAsync()
    {
        // "Host virtual address for 0x100000 (pc.ram) is 0x7f..."
        const long At = 0x100000;
        var answer = await Qmp.HumanAsync("gpa2hva 0x100000").ConfigureAwait(false);
        var hex = answer.LastIndexOf("0x", StringComparison.Ordinal);
        if (hex < 0 || !answer.Contains(" is 0x", StringComparison.Ordinal))
            throw new InvalidOperationException($"gpa2hva: {answer}");
        var address = long.Parse(answer.AsSpan(hex + 2).Trim(), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        return new GuestMemory(Pid, address - At, (long)Options.MemoryMiB << 20);
    }

    /// <summary>Asks QEMU to quit and waits until it has.</summary>
    public async Task StopCleanlyAsync()
    {
        try
        {
            await Qmp.ExecuteAsync("quit").ConfigureAwait(false);
        }
        catch (IOException)
        {
            // QEMU may exit before it answers.
        }

        await _process!.Exit.WaitAsync(TimeSpan.FromSeconds(60)).ConfigureAwait(false);
    }

    /// <summary>Sends SIGKILL and waits until QEMU is gone.</summary>
    public async Task KillAsync()
    {
        if (Pid == 0 || HasExited)
            return;
        HarnessLibc.Kill(Pid, HarnessLibc.SigKill);
        // Its parent, the guard or unshare, reaps it and then ends too.
        await _process!.Exit.WaitAsync(TimeSpan.FromSeconds(60)).ConfigureAwait(false);
    }

    /// <summary>For messages of failed tests: the machine's options and last output.</summary>
    public string Describe() =>
        $"{Options}, pid {Pid}, QEMU said: {QemuOutput}\nserial:\n  {string.Join("\n  ", _serial.Lines.TakeLast(15))}";

    public async ValueTask DisposeAsync()
    {
        _qmp?.Dispose();
        if (_process is not null)
        {
            await KillAsync().ConfigureAwait(false);
            await _process.DisposeAsync().ConfigureAwait(false);
        }

        _serial.Dispose();
        _disks?.Dispose();
        _hugePages?.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    private async Task StartAsync()
    {
        if (Options.Ram == RamKind.Hugetlbfs)
            _hugePages = HugePageReservation.Take(QemuCommandLine.HugetlbfsMount(Folder), Options.MemoryMiB);
        _disks = await TestDisks.CreateAsync(Options, Folder).ConfigureAwait(false);
        _process = await GuardedProcess.StartAsync(QemuCommandLine.Build(Options, Folder)).ConfigureAwait(false);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(_process.Ended);
        limit.CancelAfter(Options.StartTimeout);
        try
        {
            Pid = await FindQemuAsync(_process.Pid, limit.Token).ConfigureAwait(false);
            _qmp = await HarnessQmp.ConnectAsync(QemuCommandLine.HarnessSocket(Folder), limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            await Task.Delay(100).ConfigureAwait(false); // its last output
            throw new InvalidOperationException($"QEMU {(HasExited ? "ended at once" : "does not answer")}.\n{Describe()}");
        }

        if (Options.Incoming is null && !Options.Paused && Options.Guest is not FirmwareGuest)
            await WaitForTickAsync(1, Options.StartTimeout).ConfigureAwait(false);
    }

    /// <summary>Finds QEMU's pid: follows unshare to its child, and waits until setpriv and the wrapper have become QEMU.</summary>
    private static async Task<int> FindQemuAsync(int started, CancellationToken cancellation)
    {
        while (true)
        {
            try
            {
                foreach (var pid in (int[])[started, .. Children(started)])
                {
                    if (File.ResolveLinkTarget($"/proc/{pid}/exe", false)?.Name.StartsWith("qemu-system", StringComparison.Ordinal) == true)
                        return pid;
                }
            }
            catch (IOException)
            {
                // It ended while we looked; the token shows whether that was the last process.
            }

            await Task.Delay(5, cancellation).ConfigureAwait(false);
        }
    }

    private static IEnumerable<int> Children(int pid) =>
        File.ReadAllText($"/proc/{pid}/task/{pid}/children")
            .Split(' ', StringSplitOptions.RemoveEmptyEntries)
            .Select(text => int.Parse(text, CultureInfo.InvariantCulture));
}
