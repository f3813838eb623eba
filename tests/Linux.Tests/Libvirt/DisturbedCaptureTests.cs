using System.Globalization;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>
/// Processes that die or interfere in the middle of a capture: the guest runs, nothing is left behind, and every snapshot that the agent
/// keeps is of one instant.
/// </summary>
public class DisturbedCaptureTests
{
    /// <summary>Points of TestHooks.After, in the order in which a capture passes them.</summary>
    private static readonly string[] WithoutDisks =
    [
        "protected-ahead",
        "stop-sent",
        "stopped",
        "protected",
        "released",
        "saved",
        "unprotected",
        "before-commit",
    ];
    private static readonly string[] WithDisks =
    [
        "protected-ahead",
        "stop-sent",
        "suspended",
        "stopped",
        "protected",
        "released",
        "saved",
        "unprotected",
        "before-commit",
    ];

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_capture_survives_a_libvirtd_that_is_killed_at_any_point(bool disks)
    {
        await using var machine = await AdmitAsync();
        // libvirt reads its own XML back with small differences.
        await machine.Daemon.RestartAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        foreach (var point in disks ? WithDisks : WithoutDisks)
        {
            var daemon = await machine.Daemon.PidAsync();
            var snapshot = await LibvirtCaptures.SucceedAsync(
                machine,
                point,
                string.Create(CultureInfo.InvariantCulture, $"kill:{point}:1:{daemon}"),
                Arguments(machine, disks)
            );
            await machine.Daemon.AnswersAsync();
            Assert.True(await machine.Daemon.PidAsync() != daemon, $"{point} was never reached");
            await JudgeAsync(snapshot.Output, disks, point);
            await machine.CountsOnAsync(point);
            await before.AssertAsBeforeAsync(machine, point);
        }
    }

    /// <summary>
    /// Acceptable reasons when libvirt dies for the fourth time in one capture, at whatever point. AgentDied would be wrong, and so would a
    /// report of leftovers.
    /// </summary>
    private static readonly string[] WhatLibvirtDid =
    [
        "QemuUnreachable",
        "GuestStateChanged",
        "StopWindowFailed",
        "StopTimedOut",
        "DowntimeExceeded",
    ];

    /// <summary>libvirtd comes back only for a moment each time: a capture gives up, or finds a moment that is long enough.</summary>
    [SkippableTheory]
    [InlineData(150)]
    [InlineData(400)]
    [InlineData(900)]
    public async Task A_guest_survives_captures_while_its_libvirtd_dies_again_and_again(int every)
    {
        await using var machine = await AdmitAsync();
        await machine.Daemon.RestartAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        using CancellationTokenSource enough = new();
        var killing = Task.Run(async () =>
        {
            for (; !enough.IsCancellationRequested; await Task.Delay(every))
                HarnessLibc.Kill(await machine.Daemon.PidAsync(), HarnessLibc.SigKill);
        });
        try
        {
            for (var i = 0; i < 8; i++)
            {
                var result = await LibvirtCaptures.RunAsync(
                    machine,
                    $"s{i}",
                    null,
                    [.. Arguments(machine, disks: i % 2 == 0), "--bandwidth-limit=40Mi"]
                );
                if (result.ExitCode == 0)
                    await JudgeAsync(LibvirtCaptures.Summary(result, machine).Output, disks: i % 2 == 0, $"{i}");
                else
                    Assert.True(CaptureFamily.ErrorOf(result) is { } error && WhatLibvirtDid.Contains(error.Reason), $"{i}: {result}");
            }
        }
        finally
        {
            await enough.CancelAsync();
            await killing;
        }

        await machine.Daemon.AnswersAsync();
        await machine.CountsOnAsync("all were killed");
        var alone = await LibvirtCaptures.SucceedAsync(machine, "alone", null, Arguments(machine, disks: true));
        await JudgeAsync(alone.Output, disks: true, "alone");
        await before.AssertAsBeforeAsync(machine, "alone");
    }

    /// <summary>libvirt admits both captures; the second would take the first one's objects in QEMU for those of a dead agent.</summary>
    [SkippableFact]
    public async Task A_second_capture_waits_for_the_first()
    {
        await using var machine = await AdmitAsync();
        await machine.Daemon.RestartAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        var first = LibvirtCaptures.RunAsync(machine, "first", null, [.. Arguments(machine, disks: true), "--bandwidth-limit=20Mi"]);
        await Task.Delay(300);
        var second = LibvirtCaptures.RunAsync(machine, "second", null, [.. Arguments(machine, disks: true)]);

        foreach (var one in new[] { first, second })
            await JudgeAsync(LibvirtCaptures.Summary(await one, machine).Output, disks: true, "two at once");
        await machine.CountsOnAsync("two at once");
        await before.AssertAsBeforeAsync(machine, "two at once");
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

    /// <summary>
    /// If libvirt dies while the agent asks for its marker, it is unknown whether there was one. Here there was none: the agent must not
    /// resume or thaw the guest because of it.
    /// </summary>
    [SkippableTheory]
    [InlineData("sweeping")]
    [InlineData("looked-for-stopped")]
    public async Task A_libvirtd_that_dies_while_leftovers_are_looked_for_makes_none_of_nothing(string point)
    {
        await using var machine = await AdmitAsync();
        await machine.Daemon.RestartAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        await machine.Daemon.VirshAsync("suspend", LibvirtMachine.Name);
        var daemon = await machine.Daemon.PidAsync();

        var result = await LibvirtCaptures.RunAsync(
            machine,
            "s",
            string.Create(CultureInfo.InvariantCulture, $"kill:{point}:1:{daemon}"),
            Arguments(machine, disks: true)
        );

        Assert.True(result.ExitCode == 0, $"{result}\n{machine.Daemon.Log}");
        Assert.True(await machine.Daemon.PidAsync() != daemon, $"{point} was never reached");
        Assert.Equal("paused", (await machine.AskAsync("query-status")).GetProperty("status").GetString());
        await JudgeAsync(Path.Combine(machine.Outputs, "s"), disks: true, point);
        await machine.Daemon.VirshAsync("resume", LibvirtMachine.Name);
        await machine.CountsOnAsync(point);
        await before.AssertAsBeforeAsync(machine, point);
    }

    /// <summary>KubeVirt's SyncVMI resumes every guest that it did not pause itself.</summary>
    [SkippableTheory]
    [InlineData("suspended")]
    [InlineData("saved")]
    public async Task Nobody_else_resumes_a_guest_in_its_stop_window(string point)
    {
        await using var machine = await AdmitAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        var capturing = LibvirtCaptures.RunAsync(machine, "snapshot", $"wait:{point}:1:{reached}", Arguments(machine, disks: true));
        while (!File.Exists(reached) && !capturing.IsCompleted)
            await Task.Delay(5);
        var (code, output) = await machine.Daemon.TryVirshAsync("resume", LibvirtMachine.Name);
        Assert.True(code != 0, $"{output}: {await machine.StateAsync()}");
        File.Delete(reached);

        var result = await capturing;

        var snapshot = LibvirtCaptures.Summary(result, machine);
        Assert.True(
            result.StandardOutput.LastIndexOf("\"Preparing\"", StringComparison.Ordinal)
                < result.StandardOutput.IndexOf("\"Stopped\"", StringComparison.Ordinal),
            result.ToString()
        );
        await JudgeAsync(snapshot.Output, disks: true, point);
        await machine.CountsOnAsync(point);
        await before.AssertAsBeforeAsync(machine, point);
    }

    /// <summary>No process of ours is left and none comes: QEMU itself resumes the guest.</summary>
    [SkippableTheory]
    [InlineData("suspended", false)]
    [InlineData("suspended", true)]
    [InlineData("stopped", false)]
    [InlineData("saved", true)]
    public async Task A_guest_in_its_stop_window_survives_all_of_us(string point, bool andLibvirt)
    {
        await using var machine = await AdmitAsync();
        await machine.Daemon.RestartAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        await using var family = await CaptureFamily.StartAsync(
            $"wait:{point}:1:{reached}",
            ["--output", Path.Combine(machine.Outputs, "s"), "--engine=agent", .. Arguments(machine, disks: true)]
        );
        Assert.True(await family.FindWorkerAsync());
        while (!File.Exists(reached))
            await Task.Delay(5);
        Assert.StartsWith("paused", await machine.StateAsync(), StringComparison.Ordinal);
        if (andLibvirt)
            HarnessLibc.Kill(await machine.Daemon.PidAsync(), HarnessLibc.SigKill);
        family.Signal(HarnessLibc.SigKill);
        family.SignalWorker(HarnessLibc.SigKill);
        await family.WaitAsync(TimeSpan.FromSeconds(60));

        await machine.Daemon.AnswersAsync();
        await machine.CountsOnAsync(point);

        // The next capture removes what is left in QEMU.
        File.Delete(reached);
        foreach (var left in Directory.EnumerateDirectories(machine.Outputs))
            Directory.Delete(left, recursive: true);
        var snapshot = await LibvirtCaptures.SucceedAsync(machine, "next", null, Arguments(machine, disks: true));
        await JudgeAsync(snapshot.Output, disks: true, point);
        await machine.CountsOnAsync("next");
        await before.AssertAsBeforeAsync(machine, point);
    }

    [SkippableFact]
    public async Task A_guest_in_its_stop_window_survives_agent_and_libvirtd_together()
    {
        await using var machine = await AdmitAsync();
        await machine.Daemon.RestartAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        await using var family = await CaptureFamily.StartAsync(
            $"wait:stopped:1:{reached}",
            ["--output", Path.Combine(machine.Outputs, "s"), "--engine=agent", .. Arguments(machine, disks: true)]
        );
        Assert.True(await family.FindWorkerAsync());
        while (!File.Exists(reached))
            await Task.Delay(5);
        HarnessLibc.Kill(await machine.Daemon.PidAsync(), HarnessLibc.SigKill);
        family.SignalWorker(HarnessLibc.SigKill);

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

        Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(snapshot).IsSound, after);
        Directory.Delete(snapshot, recursive: true);
    }
}
