using System.Diagnostics;
using System.Globalization;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>
/// The nodes in brackets of the graph of who waits for whom (docs/design/0019-who-waits-for-whom.md), which others own: a monitor, a guest
/// agent, and QEMU itself as the server of our NBD client. Each of them falls silent, is slow, or has to wait for us, and the guest runs
/// all the same. For libvirt see Libvirt/RunStateTests.
/// </summary>
public sealed class SilentPeerTests : IDisposable
{
    private const int Ticks = 3;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan SlowestEnd = TimeSpan.FromSeconds(110);
    private static readonly string[] Slow = ["--max-downtime", "1s", "--bandwidth-limit", "60Mi"];
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgsnap-silent-");

    public void Dispose() => _folder.Delete(recursive: true);

    [SkippableTheory]
    [InlineData("facts")]
    [InlineData("protected-ahead")]
    [InlineData("stop-sent")]
    [InlineData("stopped")]
    [InlineData("protected")]
    [InlineData("disks-begin")]
    [InlineData("unprotected")]
    public async Task A_monitor_that_falls_silent(string point)
    {
        await using var patient = await Patient.AdmitAsync();
        using Relay relay = new(patient.Machine.Folder, patient.Machine.QmpSocket);
        await using var gate = new HookGate(patient, point);
        await using var family = await ThroughAsync(relay, patient, gate.Hook);
        await gate.ReachedAsync(family);
        relay.FallSilent();
        await gate.DisposeAsync();

        await FreeAsync(patient, $"silent from {point} on");

        var result = await family.WaitAsync(SlowestEnd);
        Assert.True(result.ExitCode is 0 or 1 or 6 && CaptureFamily.ErrorOf(result)?.Reason != "InternalError", result.ToString());
        await FreeAsync(patient, "the end of the capture");
        relay.Speak();
        foreach (var left in Directory.EnumerateDirectories(patient.Outputs))
            Directory.Delete(left, recursive: true);
        await patient.CaptureWellAsync();
        await patient.NothingIsLeftAsync($"silent from {point} on");
    }

    [SkippableTheory]
    [InlineData(20)]
    [InlineData(150)]
    public async Task A_monitor_that_answers_slowly(int milliseconds)
    {
        await using var patient = await Patient.AdmitAsync();
        using Relay relay = new(patient.Machine.Folder, patient.Machine.QmpSocket) { Delay = TimeSpan.FromMilliseconds(milliseconds) };
        await using var family = await ThroughAsync(relay, patient, null);
        await family.FindWorkerAsync();

        var longest = await LongestSilenceAsync(patient, family);

        var result = await family.WaitAsync(SlowestEnd);
        Assert.True(result.ExitCode == 0 || CaptureFamily.ErrorOf(result)?.Reason == "DowntimeExceeded", result.ToString());
        Assert.True(longest < Limit, $"The guest did not count for {longest}.");
        await patient.CountsOnAsync("a slow monitor", Limit);
    }

    /// <summary>Another client keeps QEMU's main loop busy with commands.</summary>
    [SkippableFact]
    public async Task Another_client_floods_QEMU_with_questions()
    {
        await using var patient = await Patient.AdmitAsync();
        using CancellationTokenSource end = new();
        Task[] flood = [.. Enumerable.Range(0, 8).Select(_ => FloodAsync(patient.Machine.Qmp, end.Token))];
        await using var family = await patient.BeginAsync(null, patient.NewOutput(), Slow);
        await family.FindWorkerAsync();

        var longest = await LongestSilenceAsync(patient, family);

        var result = await family.WaitAsync(SlowestEnd);
        await end.CancelAsync();
        await Task.WhenAll(flood);
        Assert.True(result.ExitCode == 0 || CaptureFamily.ErrorOf(result)?.Reason == "DowntimeExceeded", result.ToString());
        Assert.True(longest < Limit, $"The guest did not count for {longest}.");
        await patient.CountsOnAsync("a flood", Limit);
    }

    /// <summary>
    /// Only the silent guest agent itself could thaw what it froze: the guest runs, and those of its programs that write wait. The capture
    /// says so and ends, and the next capture ends the freeze.
    /// </summary>
    [SkippableTheory]
    [InlineData("if-available")]
    [InlineData("required")]
    public async Task A_guest_agent_that_falls_silent_after_the_freeze(string quiesce)
    {
        await using var vm = await AdmitWithAgentAsync();
        using Relay relay = new(vm.Folder, vm.GuestAgentSocket);
        relay.FallSilentBefore("guest-fsfreeze-thaw");
        await using var family = await CaptureFamily.StartAsync(
            null,
            "--qmp",
            vm.QmpSocket,
            "--engine=agent",
            "--max-downtime=1s",
            "--output",
            Path.Combine(vm.Folder, "s"),
            "--guest-agent",
            relay.Path,
            $"--quiesce={quiesce}"
        );
        await family.FindWorkerAsync();
        await TicksAsync(vm);

        await JudgeAsync(vm, relay, family, quiesce);
    }

    /// <summary>The freeze command arrives and its answer does not.</summary>
    [SkippableTheory]
    [InlineData("if-available")]
    [InlineData("required")]
    public async Task A_guest_agent_that_falls_silent_in_the_freeze(string quiesce)
    {
        await using var vm = await AdmitWithAgentAsync();
        using Relay relay = new(vm.Folder, vm.GuestAgentSocket);
        relay.FallSilentAfter("guest-fsfreeze-freeze");
        await using var family = await CaptureFamily.StartAsync(
            null,
            "--qmp",
            vm.QmpSocket,
            "--engine=agent",
            "--max-downtime=1s",
            "--output",
            Path.Combine(vm.Folder, "s"),
            "--guest-agent",
            relay.Path,
            $"--quiesce={quiesce}"
        );
        await family.FindWorkerAsync();
        await TicksAsync(vm);

        await JudgeAsync(vm, relay, family, quiesce);
    }

    /// <summary>
    /// We are the client, and stopped with a request in flight: QEMU must still be able to drain its disks, as it does for each stop and
    /// each reset.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task An_NBD_client_that_reads_no_further(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(
            DiskMachines.Writing(
                version,
                new TestDisk
                {
                    Name = "vda",
                    MiB = 64,
                    IsFull = true,
                },
                new TestDisk { Name = "vdb", Format = DiskFormat.Qcow2 }
            )
        );
        await using var family = await CaptureFamily.StartAsync(
            null,
            "--qmp",
            vm.QmpSocket,
            "--engine=agent",
            "--disks=all",
            "--max-downtime=1s",
            "--bandwidth-limit=12Mi",
            "--scratch",
            vm.Folder,
            "--output",
            Path.Combine(vm.Folder, "s")
        );
        Assert.True(await family.FindWorkerAsync());
        // The agent copies memory now: no watchdog ends it any more.
        while (!family.Output.Contains("\"phase\":\"Writing\"", StringComparison.Ordinal))
        {
            Assert.False(family.HasEnded, family.Output);
            await Task.Delay(20);
        }

        for (var i = 0; i < 5; i++)
        {
            family.Signal(HarnessLibc.SigStop);
            family.SignalWorker(HarnessLibc.SigStop);
            var began = Stopwatch.GetTimestamp();
            await vm.Qmp.ExecuteAsync("stop");
            await vm.Qmp.ExecuteAsync("cont");
            Assert.True(Stopwatch.GetElapsedTime(began) < Limit, $"QEMU waited {Stopwatch.GetElapsedTime(began)} for us.");
            await DiskMachines.WritesOnAsync(vm, "a drain beside a stopped client", Limit);
            family.SignalWorker(HarnessLibc.SigCont);
            family.Signal(HarnessLibc.SigCont);
            await Task.Delay(30);
        }

        var result = await family.WaitAsync(SlowestEnd);
        Assert.True(result.ExitCode == 0, result.ToString());
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    private static Task<CaptureFamily> ThroughAsync(Relay relay, Patient patient, string? hook) =>
        CaptureFamily.StartAsync(
            hook,
            [
                "--qmp",
                relay.Path,
                "--pid",
                patient.Machine.Pid.ToString(CultureInfo.InvariantCulture),
                "--engine",
                "agent",
                "--output",
                patient.NewOutput(),
                .. Slow,
            ]
        );

    private static async Task FreeAsync(Patient patient, string what)
    {
        await patient.CountsOnAsync(what, Limit);
        await patient.Machine.WaitForMoreTicksAsync(Ticks);
    }

    /// <summary>The longest time without a tick until the capture ended.</summary>
    private static async Task<TimeSpan> LongestSilenceAsync(Patient patient, CaptureFamily family)
    {
        var (longest, last) = (TimeSpan.Zero, Stopwatch.GetTimestamp());
        for (var tick = patient.Machine.LatestReport!.Tick; !family.HasEnded && family.Elapsed < SlowestEnd; await Task.Delay(10))
        {
            if (Stopwatch.GetElapsedTime(last) > longest)
                longest = Stopwatch.GetElapsedTime(last);
            if (patient.Machine.LatestReport!.Tick != tick)
                (tick, last) = (patient.Machine.LatestReport.Tick, Stopwatch.GetTimestamp());
        }

        return longest;
    }

    private static async Task FloodAsync(HarnessQmp qmp, CancellationToken end)
    {
        while (!end.IsCancellationRequested)
            await qmp.ExecuteAsync("query-qmp-schema", cancellation: CancellationToken.None);
    }

    private async Task<VirtualMachine> AdmitWithAgentAsync()
    {
        var vm = await Ext4Machine.StartAsync(QemuVersion.System, _folder.FullName, agent: true);
        await vm.WaitForReportAsync(r => r.Disk > 0, "write");
        await Task.Delay(2000); // the guest agent opens its end once it has started
        return vm;
    }

    private static async Task TicksAsync(VirtualMachine vm)
    {
        var began = Stopwatch.GetTimestamp();
        await vm.WaitForReportAsync(r => r.At > began, "tick while its agent is silent", Limit);
        await vm.WaitForMoreTicksAsync(20);
    }

    private static async Task JudgeAsync(VirtualMachine vm, Relay relay, CaptureFamily family, string quiesce)
    {
        var result = await family.WaitAsync(SlowestEnd);
        Assert.True(
            quiesce == "required" ? CaptureFamily.ErrorOf(result)?.Reason == "QuiesceFailed" : result.ExitCode == 0,
            result.ToString()
        );
        Assert.Contains("did not", result.StandardOutput, StringComparison.Ordinal);
        await TicksAsync(vm);
        relay.Speak();
        var freed = await AgentProcess.RunAsync(SlowestEnd, "free", "--qmp", vm.QmpSocket, "--guest-agent", vm.GuestAgentSocket);
        Assert.True(freed.ExitCode == 0, freed.ToString());
        await DiskMachines.WritesOnAsync(vm, "the freeze");
    }
}
