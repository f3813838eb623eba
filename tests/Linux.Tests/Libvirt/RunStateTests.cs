using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>
/// The user pauses, resumes or changes the domain during a capture, or libvirt falls silent: the guest is soon in the state that its user
/// wanted.
/// </summary>
public class RunStateTests
{
    private const string Gap = "protected-ahead";

    /// <summary>The guest should run at the latest 1.5 s after it was stopped, but this host may be busy. It was 72 s before.</summary>
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(30);

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_guest_that_is_paused_before_the_window_stays_paused_and_its_snapshot_says_so(bool disks)
    {
        await using var machine = await AdmitAsync();

        var result = await CaptureAsync(machine, Gap, () => machine.Daemon.VirshAsync("suspend", LibvirtMachine.Name), disks);

        var snapshot = LibvirtCaptures.Summary(result, machine);
        Assert.True(snapshot is { Paused: true, DowntimeMicroseconds: 0 }, result.ToString());
        Assert.StartsWith("paused", await machine.StateAsync(), StringComparison.Ordinal);
        await JudgeAsync(snapshot.Output, disks);
        await machine.Daemon.VirshAsync("resume", LibvirtMachine.Name);
        await machine.CountsOnAsync("the capture");
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_paused_guest_that_is_resumed_before_the_window_is_captured_as_a_running_one(bool disks)
    {
        await using var machine = await AdmitAsync();
        await machine.Daemon.VirshAsync("suspend", LibvirtMachine.Name);

        var result = await CaptureAsync(
            machine,
            Gap,
            async () =>
            {
                await machine.Daemon.VirshAsync("resume", LibvirtMachine.Name);
                await machine.CountsOnAsync("its user resumed it");
            },
            disks
        );

        var snapshot = LibvirtCaptures.Summary(result, machine);
        Assert.True(snapshot is { Paused: false, DowntimeMicroseconds: > 0 }, result.ToString());
        await JudgeAsync(snapshot.Output, disks);
        await machine.CountsOnAsync("the capture");
    }

    [SkippableFact]
    public async Task A_disk_that_is_added_before_the_window_fails_the_capture_and_is_named()
    {
        await using var machine = await AdmitAsync("-device", "pcie-root-port,id=port9,chassis=9,addr=0x10");

        var result = await CaptureAsync(
            machine,
            Gap,
            async () =>
            {
                await machine.AskAsync("blockdev-add", """{"driver":"null-co","node-name":"node-vdb","size":1048576,"read-zeroes":true}""");
                await machine.AskAsync("device_add", """{"driver":"virtio-blk-pci","id":"vdb","drive":"node-vdb","bus":"port9"}""");
            },
            disks: true
        );

        var error = CaptureFamily.ErrorOf(result);
        Assert.True(error?.Reason == "MachineChanged", result.ToString());
        Assert.Contains("vdb was added", error.Message, StringComparison.Ordinal);
        await machine.CountsOnAsync("the capture");
    }

    /// <summary>The agent must free the guest before it waits for anything that goes through libvirt.</summary>
    [SkippableTheory]
    [InlineData("facts", true)]
    [InlineData("protected-ahead", false)]
    [InlineData("stop-sent", false)]
    [InlineData("stop-sent", true)]
    [InlineData("suspended", true)]
    [InlineData("stopped", true)]
    [InlineData("protected", true)]
    [InlineData("disks-begin", true)]
    [InlineData("unprotected", true)]
    public async Task A_libvirt_that_falls_silent_does_not_keep_the_guest(string point, bool disks)
    {
        await using var machine = await AdmitAsync();
        var daemon = await machine.Daemon.PidAsync();
        var reached = Path.Combine(machine.Folder, "reached");
        await using var family = await CaptureFamily.StartAsync(
            $"wait:{point}:1:{reached}",
            ["--output", Path.Combine(machine.Outputs, "s"), "--engine=agent", "--max-downtime=500ms", .. Arguments(machine, disks)]
        );
        while (!File.Exists(reached))
            await Task.Delay(5);
        HarnessLibc.Kill(daemon, HarnessLibc.SigStop);
        try
        {
            File.Delete(reached);
            await Task.Delay(500);
            var before = machine.Serial.LatestReport?.Tick ?? 0;
            using CancellationTokenSource limit = new(Soon);
            await machine.Serial.WaitForReportAsync(r => r.Tick > before + 1, limit.Token);
        }
        finally
        {
            HarnessLibc.Kill(daemon, HarnessLibc.SigCont);
        }

        var result = await family.WaitAsync(TimeSpan.FromSeconds(90));
        var reason = CaptureFamily.ErrorOf(result)?.Reason;
        Assert.True(reason is "DowntimeExceeded" or "GuestStateChanged" || result.ExitCode == 0, result.ToString());
        await machine.CountsOnAsync(point);
    }

    /// <summary>The guest is free, so no downtime runs: the capture waits for libvirt, and starts over.</summary>
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_libvirt_that_is_slow_to_come_back_in_the_window_has_the_capture_begun_again(bool disks)
    {
        await using var machine = await AdmitAsync();
        await machine.Daemon.RestartAsync();
        var daemon = await machine.Daemon.PidAsync();
        var loop = ParentOf(daemon);

        var result = await CaptureAsync(
            machine,
            "stopped",
            async () =>
            {
                // Stop the loop, which would restart libvirtd at once.
                HarnessLibc.Kill(loop, HarnessLibc.SigStop);
                HarnessLibc.Kill(daemon, HarnessLibc.SigKill);
                _ = Task.Delay(TimeSpan.FromSeconds(4))
                    .ContinueWith(_ => HarnessLibc.Kill(loop, HarnessLibc.SigCont), TaskScheduler.Default);
                await Task.Delay(100);
            },
            disks
        );

        await JudgeAsync(LibvirtCaptures.Summary(result, machine).Output, disks);
        await machine.CountsOnAsync("the capture");
    }

    private static int ParentOf(int pid)
    {
        var line = File.ReadLines($"/proc/{pid}/status").First(l => l.StartsWith("PPid:", StringComparison.Ordinal));
        return int.Parse(line[5..], System.Globalization.CultureInfo.InvariantCulture);
    }

    private static Task<LibvirtMachine> AdmitAsync(params IReadOnlyList<string> arguments) =>
        LibvirtMachine.StartAsync(
            DiskMachines.Writing(QemuVersion.Unpacked10, new TestDisk { Name = "vda" }) with
            {
                MemoryMiB = 128,
            },
            arguments
        );

    private static IEnumerable<string> Arguments(LibvirtMachine machine, bool disks) =>
        [.. LibvirtCaptures.ByName(machine), disks ? "--disks=all" : "--disks=none", "--scratch", machine.Folder];

    private static async Task<AgentResult> CaptureAsync(LibvirtMachine machine, string point, Func<Task> meanwhile, bool disks)
    {
        var reached = Path.Combine(machine.Folder, "reached");
        var capturing = LibvirtCaptures.RunAsync(machine, "snapshot", $"wait:{point}:1:{reached}", Arguments(machine, disks));
        while (!File.Exists(reached) && !capturing.IsCompleted)
            await Task.Delay(5);
        try
        {
            await meanwhile();
        }
        finally
        {
            File.Delete(reached);
        }

        return await capturing;
    }

    private static async Task JudgeAsync(string snapshot, bool disks)
    {
        if (disks)
        {
            var verdict = await SnapshotDisks.JudgeAsync(snapshot);
            Assert.True(verdict.Agrees, $"{verdict}");
        }

        Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(snapshot).IsSound);
    }
}
