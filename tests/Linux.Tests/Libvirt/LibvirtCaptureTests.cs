using System.Globalization;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>The agent captures a domain through its libvirt as if it had its own QMP socket.</summary>
public class LibvirtCaptureTests
{
    [SkippableTheory]
    [InlineData(RamKind.Anonymous, "name")]
    [InlineData(RamKind.Memfd, "pid")]
    public async Task A_domain_is_captured_and_lives_on_elsewhere(RamKind ram, string by)
    {
        await using var machine = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting(ram));
        await LibvirtCaptures.WarmUpAsync(machine);
        string[] which = by == "pid" ? ["--pid", machine.Pid.ToString(CultureInfo.InvariantCulture)] : [.. LibvirtCaptures.ByName(machine)];

        var snapshot = await LibvirtCaptures.SucceedAsync(machine, "snapshot", null, [.. which, "--disks=none", Agent.Slowly]);

        LibvirtCaptures.AssertOneCut(snapshot, keep: true);
        StopWindowTests.AssertWhole(snapshot, disks: false);
        await machine.CountsOnAsync("capture");
        await machine.Daemon.VirshAsync("suspend", LibvirtMachine.Name);
        var captured = machine.Serial.LatestReport!;
        // The same machine without libvirt; its devices are the domain's.
        await using var restored = await VirtualMachine.StartAsync(
            machine.Options with
            {
                Machine = "pc-q35-10.0",
                Ram = RamKind.Anonymous,
                Incoming = "defer",
            }
        );
        await Agent.RestoreAsync(snapshot.Output, restored);
        var first = await restored.WaitForTickAsync(1);
        var later = await restored.WaitForTickAsync(first.Tick + 4);
        Assert.InRange(first.Tick, 2, captured.Tick + 2);
        Assert.True(first.Corrupt == 0 && later.Corrupt == 0 && later.Checked > first.Checked, restored.Describe());
    }

    [SkippableFact]
    public async Task Thirty_captures_in_a_row_leave_no_trace()
    {
        await using var machine = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting());
        await LibvirtCaptures.WarmUpAsync(machine);
        var before = await LibvirtTraces.TakeAsync(machine);
        for (var i = 0; i < 30; i++)
        {
            string[] which =
                i % 3 == 0 ? ["--libvirt", machine.Daemon.Uri, "--domain", machine.Uuid.ToString()] : [.. LibvirtCaptures.ByName(machine)];
            LibvirtCaptures.AssertOneCut(await LibvirtCaptures.SucceedAsync(machine, $"s{i}", null, [.. which, "--disks=none"]));
        }

        await machine.CountsOnAsync("thirty captures");
        await before.AssertAsBeforeAsync(machine, "thirty captures");
    }

    [SkippableFact]
    public async Task A_domain_that_is_to_stay_stopped_does_and_libvirt_resumes_it()
    {
        await using var machine = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting());
        await LibvirtCaptures.WarmUpAsync(machine);
        var before = await LibvirtTraces.TakeAsync(machine);

        LibvirtCaptures.AssertOneCut(
            await LibvirtCaptures.SucceedAsync(machine, "s", null, [.. LibvirtCaptures.ByName(machine), "--disks=none", "--after=stop"])
        );

        Assert.Equal("paused (user)", await machine.StateAsync());
        await machine.Daemon.VirshAsync("resume", LibvirtMachine.Name);
        await machine.CountsOnAsync("its resumption");
        await before.AssertAsBeforeAsync(machine, "its resumption");
    }

    [SkippableFact]
    public async Task Disks_and_memory_of_a_domain_are_of_one_instant()
    {
        await using var machine = await LibvirtMachine.StartAsync(
            Disks.DiskMachines.Writing(
                QemuVersion.Unpacked10,
                new TestDisk { Name = "vda" },
                new TestDisk { Name = "vdb", Format = DiskFormat.Qcow2 }
            ) with
            {
                MemoryMiB = 128,
            }
        );
        var before = await LibvirtTraces.TakeAsync(machine);
        for (var i = 0; i < 3; i++)
        {
            var snapshot = await LibvirtCaptures.SucceedAsync(
                machine,
                $"s{i}",
                null,
                [.. LibvirtCaptures.ByName(machine), "--disks=all", "--scratch", machine.Folder]
            );
            var verdict = await Disks.SnapshotDisks.JudgeAsync(snapshot.Output);
            Assert.True(verdict.Agrees, $"{verdict}\n{snapshot}");
            StopWindowTests.AssertWhole(snapshot, disks: true);
            Directory.Delete(snapshot.Output, recursive: true);
            await machine.CountsOnAsync($"capture {i}");
            await before.AssertAsBeforeAsync(machine, $"capture {i}");
        }
    }
}
