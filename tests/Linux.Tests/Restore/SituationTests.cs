using System.Diagnostics;
using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>Targets from real use: the agent refuses each with a reason or restores into it, and its QEMU survives.</summary>
public sealed class SituationTests : SmallTargets
{
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_device_that_QEMU_cannot_save_is_named_and_crashes_nothing(QemuVersion version)
    {
        var options = Firmware(version);
        var snapshot = await SnapshotAsync(options);
        await using var target = await VirtualMachine.StartAsync(
            Waiting(options, "-drive", $"if=none,id=n,file={Image(1 << 20)},format=raw", "-device", "nvme,drive=n,serial=x")
        );

        var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--disks=none");

        await AssertRefusedAsync(outcome, target, "TargetDiffers", "/nvme is not in the snapshot");
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, "multifd", "eager")]
    [InlineData(QemuVersion.System, "x-ignore-shared", "stream")]
    [InlineData(QemuVersion.Unpacked10, "mapped-ram", "instant")]
    public async Task A_target_that_expects_another_stream_is_refused_with_its_memory_as_it_was(
        QemuVersion version,
        string capability,
        string mode
    )
    {
        var options = Firmware(version);
        var snapshot = await SnapshotAsync(options);
        await using var target = await VirtualMachine.StartAsync(Waiting(options));
        var on = new JsonObject { ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = capability, ["state"] = true }) };
        await target.Qmp.ExecuteAsync("migrate-set-capabilities", on);

        var outcome = await RestoreOutcome.OfAsync(snapshot, target, $"--mode={mode}");

        await AssertRefusedAsync(outcome, target, "TargetCapability", $"the migration capability {capability} of the target must be off");
    }

    [SkippableFact]
    public async Task A_drive_without_the_medium_that_was_in_it_is_named()
    {
        var options = Firmware(QemuVersion.System);
        var medium = Image(1 << 20);
        var snapshot = await SnapshotAsync(
            options with
            {
                ExtraArguments =
                [
                    "-drive",
                    $"if=none,id=cd0,media=cdrom,file={medium},format=raw,readonly=on",
                    "-device",
                    "ide-cd,drive=cd0",
                ],
            }
        );
        await using var target = await VirtualMachine.StartAsync(
            Waiting(options, "-drive", "if=none,id=cd0,media=cdrom", "-device", "ide-cd,drive=cd0")
        );

        var outcome = await RestoreOutcome.OfAsync(snapshot, target);

        await AssertRefusedAsync(outcome, target, "TargetDiffers", $"drive cd0 has no medium; the captured machine had {medium} in it");
    }

    [SkippableFact]
    public async Task Memory_that_is_locked_says_so()
    {
        var options = Firmware(QemuVersion.System);
        var snapshot = await SnapshotAsync(options);
        await using var target = await VirtualMachine.StartAsync(Waiting(options, "-overcommit", "mem-lock=on"));

        var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--mode=instant");

        Assert.True(outcome.Process.ExitCode == 4, outcome.ToString());
        Assert.Contains("RAM block pc.ram is locked in memory", outcome.Message, StringComparison.Ordinal);
        Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, "auto")]
    [InlineData(QemuVersion.System, "qemu")]
    [InlineData(QemuVersion.Unpacked10, "auto")]
    public async Task A_read_only_NVDIMM_is_not_captured(QemuVersion version, string engine)
    {
        var options = Firmware(version) with { Machine = "q35,nvdimm=on" };
        string[] nvdimm =
        [
            "-m",
            "64M,slots=2,maxmem=256M",
            "-object",
            $"memory-backend-file,id=nv,size=4M,mem-path={Image(4 << 20)},share=on,readonly=on",
            "-device",
            "nvdimm,memdev=nv,unarmed=on",
        ];
        await using var source = await Requirements.StartAsync(options with { ExtraArguments = nvdimm });

        var outcome = await Agent.TryCaptureAsync(source, "snapshot", null, $"--engine={engine}");

        Assert.True(outcome.Process.ExitCode == 3, outcome.Process.ToString());
        Assert.Equal("ReadOnlyMemory", outcome.Error!.Reason);
        Assert.Contains("memory backend nv", outcome.Error.Message, StringComparison.Ordinal);
        Assert.Equal("running", await source.Qmp.RunStateAsync());
    }

    [SkippableTheory]
    [InlineData("auto", "on")]
    [InlineData("agent", "on")]
    [InlineData("auto", "off")]
    public async Task RAM_in_a_file_on_a_disk_is_called_that(string engine, string share)
    {
        Skip.If(new DriveInfo(Folder).DriveFormat == "tmpfs", "the tests' folder is on tmpfs");
        var options = Firmware(QemuVersion.System) with
        {
            Machine = "pc,memory-backend=file",
            ExtraArguments = ["-object", $"memory-backend-file,id=file,size=64M,mem-path={Image(64 << 20)},share={share}"],
        };
        await using var source = await Requirements.StartAsync(options);

        var outcome = await Agent.TryCaptureAsync(source, "snapshot", null, $"--engine={engine}");

        Assert.True(outcome.Process.ExitCode == 3, outcome.Process.ToString());
        Assert.Equal("RamOnDisk", outcome.Error!.Reason);
        Assert.Contains("RAM block file is a file on a disk", outcome.Error.Message, StringComparison.Ordinal);
        Assert.Equal("running", await source.Qmp.RunStateAsync());
    }

    /// <summary>
    /// There is no such hardware here: a file of that name stands for the device, because the agent looks only at the descriptor's link.
    /// </summary>
    [SkippableFact]
    public async Task A_QEMU_that_holds_a_VFIO_group_behind_a_disk_is_not_captured()
    {
        await using var source = await Requirements.StartAsync(Firmware(QemuVersion.System));
        var made = !Directory.Exists("/dev/vfio");
        var file = Path.Combine(Directory.CreateDirectory("/dev/vfio").FullName, $"bgsnap-test-{Environment.ProcessId}");
        try
        {
            await File.WriteAllBytesAsync(file, new byte[4096]);
            await source.Qmp.ExecuteAsync(
                "blockdev-add",
                new JsonObject
                {
                    ["driver"] = "file",
                    ["node-name"] = "held",
                    ["filename"] = file,
                }
            );

            var outcome = await Agent.TryCaptureAsync(source, "snapshot", null);

            Assert.True(outcome.Process.ExitCode == 3, outcome.Process.ToString());
            Assert.Equal("DeviceUnsupported", outcome.Error!.Reason);
            Assert.Contains($"has {file} open (VFIO)", outcome.Error.Message, StringComparison.Ordinal);
            Assert.Equal("running", await source.Qmp.RunStateAsync());
        }
        finally
        {
            File.Delete(file);
            if (made)
                Directory.Delete("/dev/vfio");
        }
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, "stream")]
    [InlineData(QemuVersion.Unpacked10, "instant")]
    public async Task A_machine_with_an_emulated_TPM_is_restored(QemuVersion version, string mode)
    {
        Requirements.NeedProgram("/usr/bin/swtpm");
        var options = Firmware(version);
        string snapshot;
        await using (await StartTpmAsync("source"))
            snapshot = await SnapshotAsync(options with { ExtraArguments = Tpm("source") });
        await using (await StartTpmAsync("target"))
        {
            await using var target = await VirtualMachine.StartAsync(Waiting(options, Tpm("target")));
            var outcome = await RestoreOutcome.OfAsync(snapshot, target, $"--mode={mode}");
            Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
            Assert.Equal("running", await target.Qmp.RunStateAsync());
        }

        await using (await StartTpmAsync("other"))
        {
            await using var other = await VirtualMachine.StartAsync(Waiting(options, [.. Tpm("other"), "-device", "virtio-rng-pci"]));
            var refused = await RestoreOutcome.OfAsync(snapshot, other, $"--mode={mode}");
            await AssertRefusedAsync(refused, other, "TargetDiffers", "/virtio-rng-pci is not in the snapshot");
        }
    }

    private string[] Tpm(string name) =>
        [
            "-chardev",
            $"socket,id=tpm,path={Path.Combine(Folder, name)}/socket",
            "-tpmdev",
            "emulator,id=tpm0,chardev=tpm",
            "-device",
            "tpm-tis,tpmdev=tpm0",
        ];

    private async Task<GuardedProcess> StartTpmAsync(string name)
    {
        var state = Directory.CreateDirectory(Path.Combine(Folder, name)).FullName;
        var socket = Path.Combine(state, "socket");
        var tpm = await GuardedProcess.StartAsync([
            "swtpm",
            "socket",
            "--tpm2",
            "--tpmstate",
            $"dir={state}",
            "--ctrl",
            $"type=unixio,path={socket}",
            "--terminate",
        ]);
        for (var end = DateTime.UtcNow + TimeSpan.FromSeconds(30); !File.Exists(socket); await Task.Delay(20))
            Assert.True(DateTime.UtcNow < end && !tpm.HasEnded, $"swtpm did not start: {tpm.StandardError}");
        return tpm;
    }
}
