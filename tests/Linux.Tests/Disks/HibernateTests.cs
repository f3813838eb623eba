using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>
/// <c>--after stop</c>: the snapshot is the guest's suspended state, so nothing is lost when QEMU is ended afterwards, unless the capture
/// fails.
/// </summary>
public sealed class HibernateTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgsnap-hibernate-");

    public void Dispose() => _folder.Delete(recursive: true);

    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task The_guest_stays_stopped_and_nothing_is_written_after_the_cut(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(version, new TestDisk { Name = "vda" }));

        var snapshot = await Agent.CaptureAsync(vm, "snapshot", "--after=stop");

        Assert.Equal("paused", await vm.Qmp.RunStateAsync());
        await vm.WaitForSilenceAsync(TimeSpan.FromMilliseconds(1500));
        var verdict = await SnapshotDisks.JudgeAsync(snapshot.Output);
        Assert.True(verdict.Agrees, verdict.ToString());
        // The disk itself still equals the captured one.
        var captured = await SnapshotDisks.ToRawAsync(snapshot.Output, SnapshotDisks.Of(snapshot.Output)[0]);
        Assert.Equal(await File.ReadAllBytesAsync(vm.ImageOf("vda")), await File.ReadAllBytesAsync(captured));

        await vm.ContinueVcpusAsync();
        await DiskMachines.WritesOnAsync(vm, "cont");
    }

    [SkippableFact]
    public async Task A_hibernated_guest_wakes_up_elsewhere()
    {
        var options = DiskMachines.Writing(QemuVersion.System, new TestDisk { Name = "vda" });
        var kept = Path.Combine(_folder.FullName, "snapshot");
        long last;
        await using (var vm = await Requirements.StartAsync(options))
        {
            var result = await AgentProcess.RunAsync(
                TimeSpan.FromSeconds(60),
                "capture",
                "--qmp",
                vm.QmpSocket,
                "--output",
                kept,
                "--after=stop"
            );
            Assert.True(result.ExitCode == 0, result.ToString());
            last = SnapshotImage.FindDiskRecord(kept).Acknowledged;
        }

        var image = Path.Combine(kept, SnapshotDisks.Of(kept)[0].File!);
        await using var woken = await VirtualMachine.StartAsync(
            options with
            {
                Disks = [options.Disks[0] with { CopyOf = image }],
                Incoming = "defer",
            }
        );
        await Agent.RestoreAsync(kept, woken);

        // One pass over all slots: the guest has read and checked each of them.
        var report = await woken.WaitForReportAsync(r => r.Disk > last + 140, "all slots checked");
        Assert.Equal(0, report.Corrupt);
    }

    [SkippableTheory]
    [InlineData("kill:protected", "AgentDied")]
    [InlineData("kill:before-commit", "AgentDied")]
    [InlineData("kill:committed", "AgentDied")]
    [InlineData("stop:unprotected", "AgentDied")]
    public async Task A_capture_that_fails_resumes_the_guest(string hook, string reason)
    {
        foreach (var version in Enum.GetValues<QemuVersion>())
        {
            await using var vm = await Requirements.StartAsync(DiskMachines.Writing(version, new TestDisk { Name = "vda" }));

            var outcome = await Agent.TryCaptureAsync(vm, "snapshot", Agent.Hook(hook), "--engine=agent", "--after=stop");

            Assert.True(outcome.Error?.Reason == reason, outcome.Process.ToString());
            await DiskMachines.WritesOnAsync(vm, hook);
        }
    }

    [SkippableFact]
    public async Task A_full_target_resumes_the_guest()
    {
        await using var vm = await Requirements.StartAsync(
            DiskMachines.Writing(
                QemuVersion.System,
                new TestDisk
                {
                    Name = "vda",
                    MiB = 48,
                    IsFull = true,
                }
            )
        );
        var target = Directory.CreateDirectory(Path.Combine(vm.Folder, "small")).FullName;
        await Tool.RunAsync("mount", "-t", "tmpfs", "-o", "size=20M", "bgsnap-test", target);
        try
        {
            var outcome = await Agent.TryCaptureAsync(vm, "small/s", null, "--engine=agent", "--after=stop");

            Assert.True(outcome.Error is { Reason: "TargetFull" }, outcome.Process.ToString());
            await DiskMachines.WritesOnAsync(vm, "a full target");
        }
        finally
        {
            await Tool.RunAsync("umount", target);
        }
    }
}
