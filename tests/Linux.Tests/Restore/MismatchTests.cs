using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>The agent refuses a target that does not fit the snapshot, names every difference, and touches nothing.</summary>
public sealed class MismatchTests : IAsyncLifetime
{
    private static readonly VirtualMachineOptions Firmware = new() { MemoryMiB = 64, Guest = new FirmwareGuest() };
    private DiskSnapshot? _snapshot;

    private DiskSnapshot Snapshot => _snapshot!;

    public async Task InitializeAsync()
    {
        if (HarnessLibc.IsRoot && TestFiles.Missing(Firmware) is null)
            _snapshot = await DiskSnapshot.TakeAsync(Firmware);
    }

    public Task DisposeAsync()
    {
        _snapshot?.Dispose();
        return Task.CompletedTask;
    }

    [SkippableFact]
    public async Task Disks()
    {
        Requirements.Need(Firmware);
        var folder = Snapshot.Folder;
        var (system, data) = DiskRestoreTests.OtherImages(folder, "raw", "raw");
        var longer = Restore.Disks.Raw(folder, "longer.img", 5, Restore.Disks.Size + 512);
        var overlay = Path.Combine(folder, "overlay.qcow2");
        Restore.Disks.Run("create", "-q", "-f", "qcow2", "-b", data, "-F", "raw", overlay);
        var smaller = Restore.Disks.Qcow2(folder, "smaller.qcow2", Restore.Disks.Raw(folder, "smaller.img", 6, Restore.Disks.Size - 65536));

        await RefusedAsync(
            Restore.Disks.Drive("system", longer, "raw"),
            $"disk system has {Restore.Disks.Size + 512} bytes in the target ({longer}) instead of {Restore.Disks.Size}",
            "no disk data (the target has system)"
        );
        await RefusedAsync(DiskSnapshot.Arguments(system, "raw", smaller, "qcow2"), $"disk data has {Restore.Disks.Size - 65536} bytes");
        await RefusedAsync(DiskSnapshot.Arguments(system, "raw", overlay, "qcow2"), "disk data has a backing file");
        await RefusedAsync(
            [.. Restore.Disks.Drive("system", system, "raw", ",readonly=on"), .. Restore.Disks.Node("data", data, "raw")],
            "disk system is read-only in the target"
        );
    }

    [SkippableFact]
    public async Task A_disk_that_another_machine_writes_to()
    {
        Requirements.Need(Firmware);
        var (system, data) = DiskRestoreTests.OtherImages(Snapshot.Folder, "raw", "raw");
        // A waiting QEMU takes no lock yet, so both can have the image.
        await using var target = await VirtualMachine.StartAsync(
            Firmware with
            {
                Incoming = "defer",
                ExtraArguments = DiskSnapshot.Arguments(system, "raw", data, "raw"),
            }
        );
        await using var other = await VirtualMachine.StartAsync(
            Firmware with
            {
                ExtraArguments = Restore.Disks.Drive("its-own", system, "raw"),
            }
        );

        var outcome = await RestoreOutcome.OfAsync(Snapshot.Directory, target);

        Assert.True(outcome.Process.ExitCode == 3, outcome.ToString());
        Assert.Contains("disk system is written by another process", outcome.Message, StringComparison.Ordinal);
        Assert.Equal("running", await other.Qmp.RunStateAsync());
    }

    /// <summary>QEMU takes its own lock when it has loaded the snapshot, so the agent must have released its lock before that.</summary>
    [SkippableFact]
    public async Task While_a_disk_is_written_no_QEMU_starts_with_it()
    {
        Requirements.Need(Firmware);
        var (system, _) = DiskRestoreTests.OtherImages(Snapshot.Folder, "raw", "raw");
        using (var image = File.OpenHandle(system, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite))
        {
            using (Engine.Restore.ImageLock.Take(image))
            {
                var (code, output) = await Tool.TryAsync("qemu-io", "-f", "raw", "-c", "write 0 512", system);
                Assert.True(code != 0 && output.Contains("lock", StringComparison.Ordinal), output);
            }

            var (after, said) = await Tool.TryAsync("qemu-io", "-f", "raw", "-c", "write 0 512", system);
            Assert.True(after == 0, said);
        }
    }

    /// <summary>Another restore ends while ours is under way: ours must not overwrite what the guest has written since.</summary>
    [SkippableFact]
    public async Task A_target_that_runs_by_the_time_its_disks_are_written()
    {
        Requirements.Need(Firmware);
        var (system, data) = DiskRestoreTests.OtherImages(Snapshot.Folder, "raw", "raw");
        await using var target = await VirtualMachine.StartAsync(
            Firmware with
            {
                Incoming = "defer",
                ExtraArguments = DiskSnapshot.Arguments(system, "raw", data, "raw"),
            }
        );
        var stream = await Capture.Agent.ExportAsync(Snapshot.Directory);
        var point = Path.Combine(target.Folder, "point");
        await using var agent = await AgentProcess.StartAsync(
            Capture.Agent.Hook($"wait:disks-written:1:{point}"),
            ["restore", Snapshot.Directory, "--qmp", target.QmpSocket, "--mode=eager", "--json", "--worker"]
        );
        while (!File.Exists(point) && !agent.HasEnded)
            await Task.Delay(5);
        await target.Qmp.ExecuteAsync("migrate-incoming", new() { ["uri"] = $"exec:cat {stream}" });
        while (await target.Qmp.RunStateAsync() == "inmigrate")
            await Task.Delay(20);
        File.Delete(point);

        var outcome = RestoreOutcome.Parse(await agent.WaitAsync(TimeSpan.FromSeconds(60)));

        Assert.True(outcome.Process.ExitCode == 1 && outcome.Reason == "TargetNotWaiting", outcome.ToString());
        Assert.Equal("running", await target.Qmp.RunStateAsync());
    }

    [SkippableFact]
    public async Task Machine_memory_and_devices()
    {
        Requirements.Need(Firmware);
        var (system, data) = DiskRestoreTests.OtherImages(Snapshot.Folder, "raw", "raw");
        var disks = DiskSnapshot.Arguments(system, "raw", data, "raw");

        await RefusedAsync(Firmware with { Machine = "q35", ExtraArguments = disks }, "machine type pc-q35-7.2 instead of pc-i440fx-7.2");
        await RefusedAsync(Firmware with { MemoryMiB = 32, ExtraArguments = disks }, "RAM block pc.ram has 32768 KiB instead of 65536");
        await RefusedAsync(
            Firmware with
            {
                ExtraArguments = [.. disks, "-device", "virtio-rng-pci"],
            },
            "device 0000:00:04.0/virtio-rng is not in the snapshot"
        );
        await RefusedAsync(Firmware with { ExtraArguments = [.. disks, "-serial", "null"] }, "2 devices serial instead of 1");
        await RefusedAsync(
            Firmware with
            {
                ExtraArguments = [.. disks[..2], "-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=system", .. disks[4..]],
            },
            "no device 0000:00:02.0/virtio-blk",
            "device 0000:00:02.0/virtio-scsi is not in the snapshot"
        );
        await RefusedAsync(Firmware with { Cpus = 2, ExtraArguments = disks }, "2 vCPUs instead of 1");
    }

    [SkippableFact]
    public async Task An_older_QEMU()
    {
        var newer = Firmware with { Version = QemuVersion.Unpacked10, Machine = "pc-i440fx-7.2" };
        using var snapshot = await DiskSnapshot.TakeAsync(newer);
        await using var target = await VirtualMachine.StartAsync(newer with { Version = QemuVersion.System, Incoming = "defer" });

        var outcome = await RestoreOutcome.OfAsync(snapshot.Directory, target, "--disks", "none");

        Assert.True(outcome.Process.ExitCode == 3, outcome.ToString());
        Assert.Matches(@"QEMU 7\.2\.\d+ is older than 10\.0\.\d+", outcome.Message);
    }

    [SkippableFact]
    public async Task A_QEMU_that_does_not_wait_or_runs_elsewhere()
    {
        Requirements.Need(Firmware);
        await using var running = await VirtualMachine.StartAsync(Firmware);
        var refused = await RestoreOutcome.OfAsync(Snapshot.Directory, running);
        Assert.Equal((3, "TargetNotWaiting"), (refused.Process.ExitCode, refused.Reason));

        await using var listening = await VirtualMachine.StartAsync(
            Firmware with
            {
                Incoming = $"unix:{Path.Combine(Snapshot.Folder, "incoming")}",
            }
        );
        refused = await RestoreOutcome.OfAsync(Snapshot.Directory, listening);
        Assert.Equal((3, "TargetNotWaiting"), (refused.Process.ExitCode, refused.Reason));
        Assert.Contains("-incoming defer", refused.Message, StringComparison.Ordinal);

        await using var waiting = await VirtualMachine.StartAsync(Firmware with { Incoming = "defer" });
        refused = await RestoreOutcome.OfAsync(Snapshot.Directory, waiting, "--container", new string('a', 64));
        Assert.Equal((3, "ForeignProcess"), (refused.Process.ExitCode, refused.Reason));
    }

    private Task RefusedAsync(string[] disks, params string[] sentences) =>
        RefusedAsync(Firmware with { ExtraArguments = disks }, sentences);

    private async Task RefusedAsync(VirtualMachineOptions options, params string[] sentences)
    {
        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        var images = Directory.GetFiles(Snapshot.Folder).ToDictionary(f => f, File.GetLastWriteTimeUtc);

        var outcome = await RestoreOutcome.OfAsync(Snapshot.Directory, target);

        Assert.True(outcome.Process.ExitCode == 3, $"{outcome}\n{target.Describe()}");
        Assert.Equal("TargetDiffers", outcome.Reason);
        foreach (var sentence in sentences)
            Assert.Contains(sentence, outcome.Message, StringComparison.Ordinal);
        Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
        Assert.Equal(images, Directory.GetFiles(Snapshot.Folder).ToDictionary(f => f, File.GetLastWriteTimeUtc));
    }
}
