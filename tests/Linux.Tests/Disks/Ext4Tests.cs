using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>A busy file system: the captured disk alone is as after a power cut, and with its memory the guest continues.</summary>
public sealed class Ext4Tests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgsnap-ext4-");

    public void Dispose() => _folder.Delete(recursive: true);

    [SkippableTheory]
    [InlineData(QemuVersion.System, DiskFormat.Raw)]
    [InlineData(QemuVersion.Unpacked10, DiskFormat.Qcow2)]
    public async Task A_captured_file_system_is_whole_after_a_replay_of_its_journal(QemuVersion version, DiskFormat format)
    {
        await using var vm = await Ext4Machine.StartAsync(version, _folder.FullName, format);
        await vm.WaitForReportAsync(r => r.Disk > 64, "files in all places");
        for (var i = 0; i < 5; i++)
        {
            var snapshot = await Agent.CaptureAsync(vm, $"capture{i}");

            var problems = await Ext4Machine.JudgeAsync(snapshot.Output);

            Assert.True(problems.Count == 0, string.Join("\n", problems));
            await DiskMachines.WritesOnAsync(vm, $"capture {i}");
        }
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, DiskFormat.Raw)]
    [InlineData(QemuVersion.Unpacked10, DiskFormat.Qcow2)]
    public async Task A_restored_machine_goes_on_with_its_files(QemuVersion version, DiskFormat format)
    {
        CaptureNumbers snapshot;
        DiskRecord memory;
        await using (var source = await Ext4Machine.StartAsync(version, _folder.FullName, format))
        {
            await source.WaitForReportAsync(r => r.Disk > 64, "files in all places");
            snapshot = await Agent.CaptureAsync(source, "snapshot");
            memory = SnapshotImage.FindDiskRecord(snapshot.Output);
            // The source writes on, so that the test notices if the restored machine gets the source's disk instead of the captured one.
            await source.WaitForReportAsync(r => r.Disk > memory.Acknowledged + 40, "more files");
            SnapshotDisks.CopyTo(snapshot.Output, Kept);
        }

        var image = Path.Combine(Kept, Assert.Single(SnapshotDisks.Of(Kept), d => d.File is not null).File!);
        await using var restored = await VirtualMachine.StartAsync(
            Ext4Machine.Options(version, format, image, agent: false) with
            {
                Incoming = "defer",
            }
        );
        await Agent.RestoreAsync(Kept, restored);

        var first = await restored.WaitForReportAsync(r => r.Disk > memory.Acknowledged, "a file after the restore");
        var later = await restored.WaitForReportAsync(r => r.Disk > first.Disk + 70, "each file checked once");
        Assert.Equal((0, 0), (first.Corrupt, later.Corrupt));
        Assert.InRange(first.Disk, memory.Acknowledged, memory.Acknowledged + 40);
    }

    /// <summary>The check must be able to fail: the restored guest itself finds a disk that is of another moment than memory.</summary>
    [SkippableFact]
    public async Task A_restored_machine_with_a_disk_of_another_moment_finds_it_out()
    {
        string older,
            newer;
        await using (var source = await Ext4Machine.StartAsync(QemuVersion.System, _folder.FullName))
        {
            await source.WaitForReportAsync(r => r.Disk > 64, "files in all places");
            older = (await Agent.CaptureAsync(source, "older")).Output;
            await DiskMachines.WritesOnAsync(source, "the older one");
            await source.WaitForReportAsync(r => r.Disk > SnapshotImage.FindDiskRecord(older).Acknowledged + 40, "more files");
            newer = (await Agent.CaptureAsync(source, "newer")).Output;
            SnapshotDisks.CopyTo(newer, Kept);
            File.Copy(Path.Combine(older, "disks", "vda.qcow2"), Path.Combine(Kept, "other"));
        }

        await using var restored = await VirtualMachine.StartAsync(
            Ext4Machine.Options(QemuVersion.System, DiskFormat.Raw, Path.Combine(Kept, "other"), agent: false) with
            {
                Incoming = "defer",
            }
        );
        var result = await AgentProcess.RunAsync(
            TimeSpan.FromSeconds(60),
            "restore",
            Kept,
            "--qmp",
            restored.QmpSocket,
            "--disks=none",
            "--mode=stream"
        );
        Assert.True(result.ExitCode == 0, result.ToString());

        var report = await restored.WaitForReportAsync(r => r.Corrupt > 0, "a fault found");
        Assert.True(report.Corrupt > 0);
    }

    private string Kept => Path.Combine(_folder.FullName, "kept");
}
