using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>Live migration and capture of one guest at the same time: one of the two fails or waits, and the guest always runs.</summary>
public class MigrationTests
{
    // For a guest with about 100 MiB in use: slow enough that the capture meets the migration.
    private const int Slowly = 20;

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_capture_gives_way_to_a_migration_that_begins_while_it_copies(bool disks)
    {
        await using var machine = await AdmitAsync();
        await using var target = await MigrationTarget.StartAsync(machine);
        await using var family = await CaptureAsync(machine, null, disks, "--bandwidth-limit=2Mi");
        await CopiesAsync(family);

        var migrating = target.MigrateAsync(Slowly);

        await GivesUpAsync(family);
        Assert.False(migrating.IsCompleted, "The capture lived as long as the migration.");
        await target.TakesOverAsync(migrating);
        Assert.Empty(Directory.EnumerateFileSystemEntries(machine.Outputs));
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_capture_gives_way_before_it_stops_a_guest_that_is_being_migrated(bool disks)
    {
        await using var machine = await AdmitAsync();
        await using var target = await MigrationTarget.StartAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        await using var family = await CaptureAsync(machine, $"wait:protected-ahead:1:{reached}", disks);
        await ReachesAsync(family, reached);
        var migrating = target.MigrateAsync(Slowly);
        await target.IsUnderWayAsync(migrating);

        File.Delete(reached);

        var result = await GivesUpAsync(family);
        Assert.DoesNotContain("\"Copying\"", result.StandardOutput, StringComparison.Ordinal);
        Assert.False(migrating.IsCompleted, "The capture lived as long as the migration.");
        await target.TakesOverAsync(migrating);
    }

    /// <summary>
    /// If a guest is stopped when its migration begins, libvirt keeps it stopped at the target: no migration may begin then.
    /// </summary>
    [SkippableTheory]
    [InlineData("suspended")]
    [InlineData("saved")]
    public async Task No_migration_begins_in_the_stop_window(string point)
    {
        await using var machine = await AdmitAsync();
        await using var target = await MigrationTarget.StartAsync(machine);
        var before = await LibvirtTraces.TakeAsync(machine);
        var reached = Path.Combine(machine.Folder, "reached");
        await using var family = await CaptureAsync(machine, $"wait:{point}:1:{reached}", disks: true);
        await ReachesAsync(family, reached);

        var (code, output) = await target.MigrateAsync(Slowly);

        Assert.True(code != 0 && output.Contains("dump-guest-memory in progress", StringComparison.Ordinal), output);
        File.Delete(reached);
        var snapshot = LibvirtCaptures.Summary(await family.WaitAsync(TimeSpan.FromSeconds(60)), machine);
        var verdict = await SnapshotDisks.JudgeAsync(snapshot.Output);
        Assert.True(verdict.Agrees, $"{verdict}");
        Directory.Delete(snapshot.Output, recursive: true);
        await machine.CountsOnAsync(point);
        await before.AssertAsBeforeAsync(machine, point);
        await target.TakesOverAsync(target.MigrateAsync());
    }

    [SkippableFact]
    public async Task A_capture_of_a_guest_that_is_being_migrated_is_refused()
    {
        await using var machine = await AdmitAsync();
        await using var target = await MigrationTarget.StartAsync(machine);
        var migrating = target.MigrateAsync(Slowly);
        await target.IsUnderWayAsync(migrating);

        foreach (var disks in (bool[])[false, true])
        {
            await using var family = await CaptureAsync(machine, null, disks);
            var result = await family.WaitAsync(TimeSpan.FromSeconds(60));
            Assert.True(CaptureFamily.ErrorOf(result) is { Reason: "MigrationActive", ExitCode: 3 }, result.ToString());
        }

        Assert.False(migrating.IsCompleted, "The migration was over before it was asked.");
        await target.TakesOverAsync(migrating);
    }

    [SkippableFact]
    public async Task After_thirty_captures_a_migration_succeeds()
    {
        await using var machine = await AdmitAsync();
        await using var target = await MigrationTarget.StartAsync(machine);
        for (var i = 0; i < 30; i++)
        {
            var snapshot = await LibvirtCaptures.SucceedAsync(machine, "s", null, Arguments(machine, disks: i % 2 == 0));
            Directory.Delete(snapshot.Output, recursive: true);
        }

        await target.TakesOverAsync(target.MigrateAsync());
    }

    private static Task<LibvirtMachine> AdmitAsync() =>
        LibvirtMachine.StartAsync(DiskMachines.Writing(QemuVersion.Unpacked10, new TestDisk { Name = "vda" }) with { MemoryMiB = 128 });

    private static IEnumerable<string> Arguments(LibvirtMachine machine, bool disks) =>
        [.. LibvirtCaptures.ByName(machine), disks ? "--disks=all" : "--disks=none", "--scratch", machine.Folder];

    private static Task<CaptureFamily> CaptureAsync(LibvirtMachine machine, string? hook, bool disks, params IEnumerable<string> more) =>
        CaptureFamily.StartAsync(
            hook,
            ["--output", Path.Combine(machine.Outputs, "s"), "--engine=agent", .. Arguments(machine, disks), .. more]
        );

    private static async Task ReachesAsync(CaptureFamily family, string file)
    {
        while (!File.Exists(file))
        {
            Assert.False(family.HasEnded, family.Output);
            await Task.Delay(5);
        }
    }

    private static async Task CopiesAsync(CaptureFamily family)
    {
        while (!family.Output.Contains("\"Copying\"", StringComparison.Ordinal))
        {
            Assert.False(family.HasEnded, family.Output);
            await Task.Delay(5);
        }
    }

    private static async Task<AgentResult> GivesUpAsync(CaptureFamily family)
    {
        var result = await family.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.True(CaptureFamily.ErrorOf(result) is { Reason: "MigrationActive", ExitCode: 1 }, result.ToString());
        return result;
    }
}
