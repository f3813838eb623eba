using System.Globalization;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>A domain whose QEMU waits gets a snapshot through its libvirt, and afterwards is a domain like any other.</summary>
public class LibvirtRestoreTests
{
    [SkippableTheory]
    [InlineData("instant", RamKind.Anonymous)]
    [InlineData("instant", RamKind.Memfd)]
    [InlineData("eager", RamKind.Anonymous)]
    [InlineData("stream", RamKind.Anonymous)]
    public async Task A_domain_goes_on_where_another_was_captured(string mode, RamKind ram)
    {
        await using var source = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting(ram));
        await LibvirtCaptures.WarmUpAsync(source);
        var snapshot = await LibvirtCaptures.SucceedAsync(source, "snapshot", null, [.. LibvirtCaptures.ByName(source), "--disks=none"]);
        await source.CountsOnAsync("capture");
        var captured = source.Serial.LatestReport!;

        await using var target = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting(ram), "-incoming", "defer");
        var before = await LibvirtTraces.TakeAsync(target);
        var result = await AgentProcess.RunAsync(
            TimeSpan.FromSeconds(90),
            "restore",
            snapshot.Output,
            "--pid",
            target.Pid.ToString(CultureInfo.InvariantCulture),
            "--disks=none",
            "--mode",
            mode
        );

        Assert.True(result.ExitCode == 0, $"{result}\n{target.Daemon.Log}");
        await target.CountsOnAsync("restore");
        var report = target.Serial.LatestReport!;
        Assert.True(report.Tick >= 3 && report.Corrupt == 0 && report.Checked > 0, $"{report}");
        Assert.InRange(target.Serial.Reports[0].Tick, 3, captured.Tick + 2);
        await before.AssertAsBeforeAsync(target, "restore");

        // libvirt controls the domain: it suspends, resumes and migrates it.
        await target.Daemon.VirshAsync("suspend", LibvirtMachine.Name);
        Assert.Equal("paused (user)", await target.StateAsync());
        await target.Daemon.VirshAsync("resume", LibvirtMachine.Name);
        await target.CountsOnAsync("resumption");
        await using var elsewhere = await MigrationTarget.StartAsync(target);
        await elsewhere.TakesOverAsync(elsewhere.MigrateAsync());
    }

    /// <summary>
    /// A migration reads all of the guest's RAM, so the restore serves the missing pages to it: migration and restore both succeed.
    /// </summary>
    [SkippableFact]
    public async Task A_guest_whose_RAM_still_arrives_migrates()
    {
        await using var source = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting());
        await LibvirtCaptures.WarmUpAsync(source);
        var snapshot = await LibvirtCaptures.SucceedAsync(source, "snapshot", null, [.. LibvirtCaptures.ByName(source), "--disks=none"]);
        await using var target = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting(), "-incoming", "defer");
        await using var elsewhere = await MigrationTarget.StartAsync(target);
        await using var restore = await AgentProcess.StartAsync(
            "restore",
            snapshot.Output,
            "--pid",
            target.Pid.ToString(CultureInfo.InvariantCulture),
            "--disks=none",
            "--mode=instant",
            "--bandwidth-limit=1Mi"
        );
        await target.CountsOnAsync("restore");

        Assert.False(restore.HasEnded, restore.StandardOutput);
        var migrating = elsewhere.MigrateAsync();

        var result = await restore.WaitAsync(TimeSpan.FromSeconds(60));
        await elsewhere.TakesOverAsync(migrating);
        Assert.True(result.ExitCode == 0, $"{result}");
        Assert.Contains("ended after ", result.StandardOutput, StringComparison.Ordinal);
    }

    /// <summary>A restarted libvirt ends a domain that still waits, and recognises one whose guest runs.</summary>
    [SkippableTheory]
    [InlineData("held", false)]
    [InlineData("emptied", false)]
    [InlineData("registered", false)]
    [InlineData("sent", true)]
    public async Task A_guest_runs_whole_or_not_at_all_when_its_libvirt_dies_during_a_restore(string point, bool runs)
    {
        await using var source = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting());
        await LibvirtCaptures.WarmUpAsync(source);
        var snapshot = await LibvirtCaptures.SucceedAsync(source, "snapshot", null, [.. LibvirtCaptures.ByName(source), "--disks=none"]);
        await using var target = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting(), "-incoming", "defer");
        var libvirtd = await target.Daemon.PidAsync();

        await using var restore = await AgentProcess.StartAsync(
            new Dictionary<string, string> { ["BGSNAP_TEST_HOOK"] = $"kill:{point}:1:{libvirtd}" },
            "restore",
            snapshot.Output,
            "--pid",
            target.Pid.ToString(CultureInfo.InvariantCulture),
            "--disks=none",
            "--mode=instant"
        );
        var result = await restore.WaitAsync(TimeSpan.FromSeconds(120));

        if (runs)
        {
            Assert.True(result.ExitCode == 0, $"{result}\n{target.Daemon.Log}");
            await target.CountsOnAsync("restore");
        }
        else
        {
            Assert.True(
                result.ExitCode == 1 && result.StandardError.Contains("QEMU ended before its guest ran", StringComparison.Ordinal),
                $"{result}\n{target.Daemon.Log}"
            );
            Assert.Empty(target.Serial.Reports);
        }

        Assert.NotEqual(libvirtd, await target.Daemon.PidAsync());
    }
}
