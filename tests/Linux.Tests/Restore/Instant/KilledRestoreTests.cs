using System.Globalization;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>Whenever the restoring process is killed, the guest at worst waits, and the next process continues.</summary>
public class KilledRestoreTests
{
    private const int Kills = 10,
        Seed = 20261128,
        RemoveEvent = 0x15;

    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task A_guest_outlives_ten_kills_at_random_moments(QemuVersion version, RamKind ram)
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(version, "q35", ram));

        await KillTenTimesAsync(pair.Snapshot, pair.Target);

        await InstantMachines.AssertAllOfItIsRightAsync(pair.Target);
    }

    /// <summary>The guest touches all of its memory in a moment, so ten kills need several guests.</summary>
    [SkippableFact]
    public async Task Guests_under_KVM_outlive_ten_kills_at_random_moments()
    {
        var options = new VirtualMachineOptions
        {
            Accelerator = Accelerator.Kvm,
            MemoryMiB = 256,
            Guest = new BootSectorGuest(),
        };
        await using var source = await Requirements.StartAsync(options);
        await source.WaitForTickAsync(2);
        var snapshot = await InstantMachines.SnapshotAsync(source);
        var random = new Random(Seed);
        for (int kills = 0, machines = 0; kills < Kills; machines++)
        {
            // A restore that finishes before it is killed does not count.
            Assert.True(machines < 4 * Kills, $"{kills} kills in {machines} machines: the guest is always quicker than this test");
            await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
            for (var here = 0; kills < Kills && here < 4; here++, kills++)
            {
                await using var agent = await StartAsync(snapshot, target, InstantPair.Slowly);
                while (!agent.HasEnded && !agent.StandardOutput.Contains("\"phase\":\"Running\"", StringComparison.Ordinal))
                    await Task.Delay(1);
                await Task.Delay(random.Next(0, 20));
                await agent.KillAsync();
                if (!InstantMachines.Left(target).Any())
                    break;
            }

            if (InstantMachines.Left(target).Any())
                _ = await InstantMachines.RestoreAsync(snapshot, target);
            InstantMachines.AssertNothingIsLeft(target);
            var first = await target.WaitForTickAsync(1, InstantPair.Patience);
            var later = await target.WaitForTickAsync(first.Tick + 2, InstantPair.Patience);
            Assert.True(later.Corrupt == 0, target.Describe());
        }
    }

    private static async Task KillTenTimesAsync(string snapshot, VirtualMachine target)
    {
        var random = new Random(Seed);
        for (var i = 0; i < Kills; i++)
        {
            await using var agent = await StartAsync(snapshot, target, InstantPair.Slowly);
            await agent.WaitForOutputAsync("\"phase\":\"Running\"", InstantPair.Patience);
            await Task.Delay(random.Next(0, 200));
            await agent.KillAsync();
            Assert.Equal(2, InstantMachines.Left(target).Count());
        }

        var last = await InstantMachines.RestoreAsync(snapshot, target);
        Assert.True(InstantMachines.InstantOf(last).GetProperty("takenOver").GetBoolean(), last.ToString());
        InstantMachines.AssertNothingIsLeft(target);
    }

    /// <summary>
    /// If the process is killed before the guest runs, the next one continues the restore, or starts it over, in the same QEMU.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_kill_before_the_guest_runs_is_made_good(QemuVersion version)
    {
        var options = InstantMachines.Checking(version, "q35", RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(options);
        var snapshot = await InstantMachines.SnapshotAsync(source);
        foreach (var (point, takenOver) in ((string, bool)[])[("held", false), ("emptied", false), ("registered", true), ("sent", true)])
        {
            await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
            await using (var killed = await StartAsync(Agent.Hook($"kill:{point}"), snapshot, target))
            {
                var result = await killed.WaitAsync(InstantPair.Patience);
                Assert.True(result.ExitCode == 128 + HarnessLibc.SigKill, result.ToString());
            }

            var outcome = await InstantMachines.RestoreAsync(snapshot, target);

            Assert.True(takenOver == InstantMachines.InstantOf(outcome).GetProperty("takenOver").GetBoolean(), $"{point}: {outcome}");
            InstantMachines.AssertNothingIsLeft(target);
            await InstantMachines.AssertAllOfItIsRightAsync(target);
        }
    }

    /// <summary>
    /// The kernel delivers the message of a discard only once; the killed process has put it where the next process looks for it.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task Killed_when_it_had_read_of_a_discard_it_leaves_the_message(QemuVersion version, RamKind ram)
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Ballooning(version, ram));
        await using (var killed = await StartAsync(Agent.Hook("kill:discard-read"), pair.Snapshot, pair.Target, "--bandwidth-limit=8Mi"))
        {
            await killed.WaitForOutputAsync("\"phase\":\"Running\"", InstantPair.Patience);
            await pair.Target.Qmp.ExecuteAsync("balloon", new() { ["value"] = 200L << 20 });
            var result = await killed.WaitAsync(InstantPair.Patience);
            Assert.True(result.ExitCode == 128 + HarnessLibc.SigKill, result.ToString());
        }

        Assert.Contains(RestoreMap.Of(pair.Target).Inbox, m => m is (RemoveEvent, var start, var end) && start < end);
        await pair.AssertIsTakenOverAsync();
    }

    /// <summary>The command itself starts another process when its child dies or stops.</summary>
    [SkippableFact]
    public async Task The_command_goes_on_by_itself_when_its_process_dies_or_stops()
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(QemuVersion.System, "pc", RamKind.Anonymous));
        await using var agent = await pair.RunAsync("--bandwidth-limit=10Mi");

        var first = await WorkerAsync(agent.Pid, 0);
        HarnessLibc.Kill(first, HarnessLibc.SigKill);
        var second = await WorkerAsync(agent.Pid, first);
        HarnessLibc.Kill(second, HarnessLibc.SigStop);

        var outcome = await pair.AssertEndsWellAsync(agent);
        Assert.True(InstantMachines.InstantOf(outcome).GetProperty("takenOver").GetBoolean(), outcome.ToString());
    }

    /// <summary>By then nothing of the restore is left in QEMU, so the next process could take the guest for a foreign one.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, "resident")]
    [InlineData(QemuVersion.Unpacked10, "resident")]
    [InlineData(QemuVersion.Unpacked10, "huge-pages")]
    public async Task The_command_ends_well_when_its_process_dies_after_its_last_step(QemuVersion version, string point)
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(version, "pc", RamKind.Anonymous));
        await using var agent = await InstantMachines.StartAsync(Agent.Hook($"kill:{point}"), pair.Snapshot, pair.Target);

        var outcome = await pair.AssertEndsWellAsync(agent);

        Assert.True(InstantMachines.InstantOf(outcome).GetProperty("takenOver").GetBoolean(), outcome.ToString());
        Assert.Equal("running", outcome.Last.GetProperty("guestState").GetString());
    }

    /// <summary>While one restore works, a second one is refused.</summary>
    [SkippableFact]
    public async Task Two_at_once_are_one_too_many()
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(QemuVersion.System, "pc", RamKind.Anonymous));
        var other = (await Agent.CaptureAsync(pair.Source, "other")).Output;
        await using (var agent = await StartAsync(pair.Snapshot, pair.Target, "--bandwidth-limit=20Mi"))
        {
            await agent.WaitForOutputAsync("\"phase\":\"Running\"", InstantPair.Patience);
            var second = await RestoreOutcome.OfAsync(pair.Snapshot, pair.Target, "--mode=instant");
            Assert.Equal((3, "AlreadyRestoring"), (second.Process.ExitCode, second.Reason));
            await agent.KillAsync();
        }

        var foreign = await RestoreOutcome.OfAsync(other, pair.Target, "--mode=instant");
        Assert.Equal((3, "TargetNotWaiting"), (foreign.Process.ExitCode, foreign.Reason));
        await pair.AssertIsTakenOverAsync();
    }

    /// <summary>The pid of the working child, once it differs from the last one.</summary>
    private static async Task<int> WorkerAsync(int agent, int last)
    {
        for (var end = DateTime.UtcNow + InstantPair.Patience; DateTime.UtcNow < end; await Task.Delay(10))
        {
            foreach (var task in Directory.EnumerateDirectories($"/proc/{agent}/task"))
            {
                var children = await File.ReadAllTextAsync(Path.Combine(task, "children"));
                foreach (
                    var child in children
                        .Split(' ', StringSplitOptions.RemoveEmptyEntries)
                        .Select(c => int.Parse(c, CultureInfo.InvariantCulture))
                )
                {
                    if (
                        child != last
                        && (await File.ReadAllTextAsync($"/proc/{child}/cmdline")).Contains("--worker", StringComparison.Ordinal)
                    )
                        return child;
                }
            }
        }

        throw new TimeoutException("no working process was seen");
    }

    /// <summary>Starts the working process alone, without the parent that would start another one.</summary>
    private static Task<AgentProcess> StartAsync(string snapshot, VirtualMachine target, params IEnumerable<string> options) =>
        InstantMachines.StartAsync(snapshot, target, ["--worker", .. options]);

    private static Task<AgentProcess> StartAsync(
        IReadOnlyDictionary<string, string> environment,
        string snapshot,
        VirtualMachine target,
        params IEnumerable<string> options
    ) => InstantMachines.StartAsync(environment, snapshot, target, ["--worker", .. options]);
}
