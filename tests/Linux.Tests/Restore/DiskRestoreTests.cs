using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>
/// A restore brings the disks back with the memory, into raw and qcow2 images. A guest never runs with a partly restored disk.
/// </summary>
public class DiskRestoreTests
{
    private static readonly VirtualMachineOptions Firmware = new() { MemoryMiB = 64, Guest = new FirmwareGuest() };

    [SkippableTheory]
    [InlineData(QemuVersion.System, "raw", "qcow2", "none")]
    [InlineData(QemuVersion.Unpacked10, "qcow2", "raw", "zstd")]
    public async Task Both_disks_and_memory_are_back_and_the_guest_runs(
        QemuVersion version,
        string systemFormat,
        string dataFormat,
        string compression
    )
    {
        using var snapshot = await DiskSnapshot.TakeAsync(Firmware with { Version = version }, compression);
        var (system, data) = OtherImages(snapshot.Folder, systemFormat, dataFormat);
        await using var target = await VirtualMachine.StartAsync(Waiting(version, system, systemFormat, data, dataFormat));

        var outcome = await RestoreOutcome.OfAsync(snapshot.Directory, target);

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal("summary", outcome.Type);
        Assert.Equal(["system", "data"], outcome.Last.GetProperty("disks").EnumerateArray().Select(d => d.GetString()));
        Assert.InRange(
            outcome.Last.GetProperty("timeToRunMicroseconds").GetInt64(),
            outcome.Last.GetProperty("disksMicroseconds").GetInt64() + 1,
            outcome.Last.GetProperty("totalMicroseconds").GetInt64()
        );
        Assert.Contains(outcome.Progress, p => p.GetProperty("percent").GetDouble() == 100);
        Assert.Equal("running", await target.Qmp.RunStateAsync());
        Assert.Equal(snapshot.System, Disks.Content(snapshot.Folder, system, systemFormat));
        Assert.Equal(snapshot.Data, Disks.Content(snapshot.Folder, data, dataFormat));
        // The guest reads what is on the disk, although QEMU had opened the images before they were written.
        Assert.Equal(snapshot.System, await ReadByQemuAsync(target, "system"));
        Assert.Equal(snapshot.Data, await ReadByQemuAsync(target, "format-data"));
        await target.StopCleanlyAsync();
        if (systemFormat == "qcow2")
            Disks.Run("check", "-f", "qcow2", system);
        if (dataFormat == "qcow2")
            Disks.Run("check", "-f", "qcow2", data);
    }

    [SkippableFact]
    public async Task Disks_none_leaves_the_images_alone()
    {
        using var snapshot = await DiskSnapshot.TakeAsync(Firmware);
        var (system, data) = OtherImages(snapshot.Folder, "raw", "raw");
        var before = await File.ReadAllBytesAsync(system);
        await using var target = await VirtualMachine.StartAsync(Waiting(QemuVersion.System, system, "raw", data, "raw"));

        var outcome = await RestoreOutcome.OfAsync(snapshot.Directory, target, "--disks", "none");

        Assert.True(outcome.Process.ExitCode == 0, outcome.ToString());
        Assert.Equal("running", await target.Qmp.RunStateAsync());
        Assert.Equal(before, await File.ReadAllBytesAsync(system));
    }

    [SkippableFact]
    public async Task A_damaged_disk_is_named_and_nothing_is_written_or_run()
    {
        using var snapshot = await DiskSnapshot.TakeAsync(Firmware);
        using (var file = File.OpenHandle(snapshot.FileOf("data"), FileMode.Open, FileAccess.ReadWrite))
        {
            var one = new byte[1];
            var at = RandomAccess.GetLength(file) / 2;
            _ = RandomAccess.Read(file, one, at);
            RandomAccess.Write(file, [(byte)(one[0] ^ 1)], at);
        }

        var (system, data) = OtherImages(snapshot.Folder, "raw", "raw");
        var before = (await File.ReadAllBytesAsync(system), await File.ReadAllBytesAsync(data));
        await using var target = await VirtualMachine.StartAsync(Waiting(QemuVersion.System, system, "raw", data, "raw"));

        var outcome = await RestoreOutcome.OfAsync(snapshot.Directory, target);

        Assert.Equal(5, outcome.Process.ExitCode);
        Assert.Equal("SnapshotCorrupt", outcome.Reason);
        Assert.Contains("disks/data.qcow2", outcome.Message, StringComparison.Ordinal);
        Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
        Assert.Equal(before.Item1, await File.ReadAllBytesAsync(system));
        Assert.Equal(before.Item2, await File.ReadAllBytesAsync(data));
    }

    [SkippableFact]
    public async Task A_restore_that_is_cancelled_among_its_disks_can_be_repeated()
    {
        using var snapshot = await DiskSnapshot.TakeAsync(Firmware, diskSize: 384 << 20);
        var (system, data) = OtherImages(snapshot.Folder, "raw", "raw", 384 << 20);
        await using var target = await VirtualMachine.StartAsync(Waiting(QemuVersion.System, system, "raw", data, "raw"));

        await using (
            var agent = await AgentProcess.StartAsync(["restore", snapshot.Directory, "--qmp", target.QmpSocket, "--mode=stream", "--json"])
        )
        {
            await agent.WaitForOutputAsync("\"phase\":\"Checking\"", TimeSpan.FromSeconds(60));
            agent.Terminate();
            var cancelled = RestoreOutcome.Parse(await agent.WaitAsync(TimeSpan.FromSeconds(30)));
            Assert.True(cancelled.Process.ExitCode == 130, cancelled.ToString());
            Assert.Equal("Cancelled", cancelled.Reason);
        }

        Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
        var outcome = await RestoreOutcome.OfAsync(snapshot.Directory, target);
        Assert.True(outcome.Process.ExitCode == 0, outcome.ToString());
        Assert.Equal(snapshot.System, Disks.Content(snapshot.Folder, system, "raw"));
    }

    [SkippableFact]
    public async Task A_full_volume_in_the_middle_of_a_disk_leaves_a_guest_that_does_not_run()
    {
        using var snapshot = await DiskSnapshot.TakeAsync(Firmware);
        using var small = new SmallVolume(Path.Combine(snapshot.Folder, "small"), 4 << 20);
        var (system, _) = OtherImages(snapshot.Folder, "raw", "raw");
        var data = Path.Combine(small.Folder, "data.img");
        using (var file = File.OpenHandle(data, FileMode.CreateNew, FileAccess.Write))
            RandomAccess.SetLength(file, Disks.Size); // sparse: the file fits, its content will not
        await using var target = await VirtualMachine.StartAsync(Waiting(QemuVersion.System, system, "raw", data, "raw"));

        var outcome = await RestoreOutcome.OfAsync(snapshot.Directory, target);

        Assert.True(outcome.Process.ExitCode == 1, outcome.ToString());
        Assert.Equal("TargetFull", outcome.Reason);
        Assert.Contains("disk data", outcome.Message, StringComparison.Ordinal);
        Assert.Contains("does not run", outcome.Message, StringComparison.Ordinal);
        Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
    }

    /// <summary>A disk as the running QEMU itself reads it.</summary>
    private static async Task<byte[]> ReadByQemuAsync(VirtualMachine vm, string device)
    {
        var copy = Path.Combine(vm.Folder, $"copy-{device}");
        await vm.Qmp.ExecuteAsync(
            "drive-backup",
            new JsonObject
            {
                ["device"] = device,
                ["job-id"] = $"copy-{device}",
                ["sync"] = "full",
                ["format"] = "raw",
                ["target"] = copy,
            }
        );
        for (var i = 0; ; i++)
        {
            var ended = vm.Qmp.Events.FirstOrDefault(e =>
                e.Name == "BLOCK_JOB_COMPLETED" && e.Data.GetProperty("device").GetString() == $"copy-{device}"
            );
            if (ended is not null)
            {
                Assert.False(ended.Data.TryGetProperty("error", out var error), error.ToString());
                return await File.ReadAllBytesAsync(copy);
            }

            Assert.True(i < 600, "the copy does not end");
            await Task.Delay(50);
        }
    }

    internal static (string System, string Data) OtherImages(string folder, string systemFormat, string dataFormat, long size = Disks.Size)
    {
        return (Image("system", 11, systemFormat), Image("data", 12, dataFormat));

        string Image(string name, int seed, string format)
        {
            var raw = Disks.Raw(folder, $"{name}-{Guid.NewGuid():n}.img", seed, size);
            return format == "raw" ? raw : Disks.Qcow2(folder, $"{name}-{Guid.NewGuid():n}.qcow2", raw);
        }
    }

    internal static VirtualMachineOptions Waiting(
        QemuVersion version,
        string system,
        string systemFormat,
        string data,
        string dataFormat
    ) =>
        Firmware with
        {
            Version = version,
            Incoming = "defer",
            ExtraArguments = DiskSnapshot.Arguments(system, systemFormat, data, dataFormat),
        };
}
