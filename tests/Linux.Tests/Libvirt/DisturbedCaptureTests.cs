using System.Globalization;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>Whoever goes away or interferes in the middle of a capture: the guest runs, nothing is left, and what is called a snapshot is of one instant.</summary>
public class DisturbedCaptureTests
{
    /// <summary>Points of TestHooks.After in the order in which they are passed.</summary>
    private static readonly string[] WithoutDisks = ["protected-ahead", "stop-sent", "stopped", "protected", "released", "saved", "unprotected", "before-commit"];
    private static readonly string[] WithDisks = ["protected-ahead", "stop-sent", "suspended", "stopped", "protected", "released", "saved", "unprotected", "before-commit"];

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_capture_survives_a_libvirtd_that_is_killed_at_any_point(bool disks)
    {
        await using var machine = await AdmitAsync();
        // libvirt reads its own XML back a little differently.
        await machine.Daemon.RestartAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        foreach (var point in disks ? WithDisks : WithoutDisks)
        {
            var daemon = await machine.Daemon.PidAsync();
            var snapshot = await LibvirtCaptures.SucceedAsync(machine, point, string.Create(CultureInfo.InvariantCulture, $"kill:{point}:1:{daemon}"), Arguments(machine, disks));
            await machine.Daemon.AnswersAsync();
            Assert.True(await machine.Daemon.PidAsync() != daemon, $"{point} was never reached");
            await JudgeAsync(snapshot.Output, disks, point);
            await machine.CountsOnAsync(point);
            await before.AssertAsBeforeAsync(machine, point);
        }
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_guest_survives_an_agent_that_is_killed_at_any_point(bool disks)
    {
        await using var machine = await AdmitAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        foreach (var point in disks ? WithDisks : WithoutDisks)
        {
            var result = await LibvirtCaptures.RunAsync(machine, point, $"kill:{point}", Arguments(machine, disks));
            Assert.True(CaptureFamily.ErrorOf(result) is { Reason: "AgentDied" }, $"{point}: {result}");
            await machine.CountsOnAsync(point);
            await before.AssertAsBeforeAsync(machine, point);
        }
    }

    [SkippableTheory]
    [InlineData("suspended", false)]
    [InlineData("saved", true)]
    public async Task A_capture_begins_again_when_someone_resumes_the_guest_in_its_stop_window(string point, bool andSuspends)
    {
        await using var machine = await AdmitAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        var capturing = LibvirtCaptures.RunAsync(machine, "snapshot", $"wait:{point}:1:{reached}", Arguments(machine, disks: true));
        while (!File.Exists(reached) && !capturing.IsCompleted)
            await Task.Delay(5);
        await machine.Daemon.VirshAsync("resume", LibvirtMachine.Name);
        if (andSuspends)
            await machine.Daemon.VirshAsync("suspend", LibvirtMachine.Name);
        File.Delete(reached);

        var result = await capturing;

        var snapshot = LibvirtCaptures.Summary(result, machine);
        // After its first stop window it prepared once more.
        Assert.True(result.StandardOutput.LastIndexOf("\"Preparing\"", StringComparison.Ordinal) > result.StandardOutput.IndexOf("\"Stopped\"", StringComparison.Ordinal), result.ToString());
        await JudgeAsync(snapshot.Output, disks: true, point);
        await machine.CountsOnAsync(point);
        await before.AssertAsBeforeAsync(machine, point);
    }

    /// <summary>What the snapshot holds is fixed by then, and protected.</summary>
    [SkippableFact]
    public async Task A_guest_that_someone_resumes_before_us_is_captured_all_the_same()
    {
        await using var machine = await AdmitAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        var capturing = LibvirtCaptures.RunAsync(machine, "snapshot", $"wait:saved:1:{reached}", Arguments(machine, disks: true));
        while (!File.Exists(reached) && !capturing.IsCompleted)
            await Task.Delay(5);
        await machine.Daemon.VirshAsync("resume", LibvirtMachine.Name);
        await machine.CountsOnAsync("resumption");
        File.Delete(reached);

        var snapshot = LibvirtCaptures.Summary(await capturing, machine);

        await JudgeAsync(snapshot.Output, disks: true, "resumption");
        await machine.CountsOnAsync("capture");
        await before.AssertAsBeforeAsync(machine, "capture");
    }

    [SkippableFact]
    public async Task A_capture_whose_guest_is_resumed_every_time_is_given_up()
    {
        await using var machine = await AdmitAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        var capturing = LibvirtCaptures.RunAsync(machine, "snapshot", $"wait:suspended:0:{reached}", Arguments(machine, disks: true));
        var resumed = 0;
        for (; !capturing.IsCompleted; await Task.Delay(5))
        {
            if (!File.Exists(reached))
                continue;
            await machine.Daemon.VirshAsync("resume", LibvirtMachine.Name);
            resumed++;
            File.Delete(reached);
        }

        var result = await capturing;
        Assert.True(CaptureFamily.ErrorOf(result) is { Reason: "GuestStateChanged", ExitCode: 1 }, result.ToString());
        Assert.Equal(4, resumed);
        await machine.CountsOnAsync("four tries");
        await before.AssertAsBeforeAsync(machine, "four tries");
    }

    [SkippableFact]
    public async Task A_guest_in_its_stop_window_survives_agent_and_libvirtd_together()
    {
        await using var machine = await AdmitAsync();
        await machine.Daemon.RestartAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        await using var family = await CaptureFamily.StartAsync(
            $"wait:stopped:1:{reached}", ["--output", Path.Combine(machine.Outputs, "s"), "--engine=agent", .. Arguments(machine, disks: true)]);
        Assert.True(await family.FindWorkerAsync());
        while (!File.Exists(reached))
            await Task.Delay(5);
        Libc.Kill(await machine.Daemon.PidAsync(), Libc.SigKill);
        family.SignalWorker(Libc.SigKill);

        var result = await family.WaitAsync(TimeSpan.FromSeconds(60));

        Assert.True(CaptureFamily.ErrorOf(result) is { Reason: "AgentDied" }, result.ToString());
        await machine.Daemon.AnswersAsync();
        await machine.CountsOnAsync("both were killed");
        await before.AssertAsBeforeAsync(machine, "both were killed");
    }

    private static Task<LibvirtMachine> AdmitAsync() =>
        LibvirtMachine.StartAsync(DiskMachines.Writing(QemuVersion.Unpacked10, new TestDisk { Name = "vda" }) with { MemoryMiB = 128 });

    private static IEnumerable<string> Arguments(LibvirtMachine machine, bool disks) =>
        [.. LibvirtCaptures.ByName(machine), disks ? "--disks=all" : "--disks=none", "--scratch", machine.Folder];

    private static async Task JudgeAsync(string snapshot, bool disks, string after)
    {
        if (disks)
        {
            var verdict = await SnapshotDisks.JudgeAsync(snapshot);
            Assert.True(verdict.Agrees, $"{after}: {verdict}");
        }

        Assert.True(NodeAgent.Store.SnapshotVerifier.Verify(snapshot).IsSound, after);
        Directory.Delete(snapshot, recursive: true);
    }
}
