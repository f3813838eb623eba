using System.Diagnostics;
using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>A machine whose captures the test makes fail, with the record of its former state.</summary>
internal sealed class Patient : IAsyncDisposable
{
    /// <summary>
    /// A guest whose agent died must visibly count within this time; its tick lines come every 100 ms. It runs at once, or never:
    /// 20 s allow for a busy host. `make test-idle`, which runs these tests alone, holds the agent to its promise.
    /// </summary>
    public static readonly TimeSpan TickLimit = TimeSpan.FromSeconds(IsIdle ? 3 : 20);

    /// <summary>The limit for an agent that was stopped: the watchdog has to notice first.</summary>
    public static readonly TimeSpan WatchdogLimit = TimeSpan.FromSeconds(IsIdle ? 4 : 20);

    private static bool IsIdle => Environment.GetEnvironmentVariable("BGSNAP_IDLE") == "1";

    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);
    private readonly ProcessFingerprint _before;
    private int _number;

    private Patient(VirtualMachine machine, ProcessFingerprint before) => (Machine, _before) = (machine, before);

    public VirtualMachine Machine { get; }

    public string Outputs => Path.Combine(Machine.Folder, "outputs");

    /// <summary>Starts a guest that writes all the time, in 96 MiB.</summary>
    public static async Task<Patient> AdmitAsync(
        QemuVersion version = QemuVersion.System,
        RamKind ram = RamKind.Anonymous,
        bool disk = false
    )
    {
        Requirements.NeedUserfaultfd();
        var machine = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Version = version,
                Ram = ram,
                MemoryMiB = 192,
                Disks = disk ? [new TestDisk { Name = "vda" }] : [],
                Guest = new LinuxGuest
                {
                    MiB = 96,
                    Fill = "random",
                    TickMilliseconds = 100,
                },
            }
        );
        Directory.CreateDirectory(Path.Combine(machine.Folder, "outputs"));
        await machine.WaitForTickAsync(3);
        return new Patient(machine, await ProcessFingerprint.TakeAsync(machine));
    }

    /// <summary>The path of an output that does not exist yet.</summary>
    public string NewOutput() => Path.Combine(Outputs, string.Create(CultureInfo.InvariantCulture, $"s{_number++}"));

    public Task<CaptureFamily> BeginAsync(string? hook, string output, params IEnumerable<string> more) =>
        CaptureFamily.StartAsync(hook, ["--qmp", Machine.QmpSocket, "--engine", "agent", "--output", output, .. more]);

    /// <summary>Runs one capture until the agent exits.</summary>
    public async Task<AgentResult> CaptureAsync(string? hook, string output, params IEnumerable<string> more)
    {
        await using var family = await BeginAsync(hook, output, more);
        await family.FindWorkerAsync();
        return await family.WaitAsync(Patience);
    }

    /// <summary>Runs an undisturbed capture, which also removes what the last one left; deletes its output.</summary>
    public async Task CaptureWellAsync()
    {
        var output = NewOutput();
        var result = await CaptureAsync(null, output);
        Assert.True(result.ExitCode == 0, $"A capture after a disturbed one: {result}");
        Directory.Delete(output, recursive: true);
    }

    /// <summary>Asserts that the guest counts from now on, within the limit.</summary>
    public async Task CountsOnAsync(string after, TimeSpan limit)
    {
        var began = Stopwatch.GetTimestamp();
        var report = await Machine.WaitForReportAsync(r => r.At > began, $"tick after {after}", limit);
        Assert.True(report.Corrupt == 0, $"{after}: the guest found {report.Corrupt} corrupt pages.\n{Machine.Describe()}");
        var state = await Machine.Qmp.RunStateAsync();
        Assert.True(state == "running", $"{after}: the guest is {state}.");
    }

    /// <summary>Asserts that nothing is left, neither in QEMU nor beside the outputs.</summary>
    public async Task NothingIsLeftAsync(string after)
    {
        var differences = await _before.DifferencesAfterwardsAsync(Machine);
        Assert.True(differences.Count == 0, $"{after}: left in QEMU: {string.Join("; ", differences)}");
        var names = Directory.EnumerateFileSystemEntries(Outputs).Select(Path.GetFileName).ToList();
        Assert.True(names.Count == 0, $"{after}: left beside the outputs: {string.Join(", ", names)}");
    }

    public ValueTask DisposeAsync() => Machine.DisposeAsync();
}
