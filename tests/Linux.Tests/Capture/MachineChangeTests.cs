using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>
/// The machine changes between the agent's first look and the point in time: the agent keeps no snapshot that mixes both machines.
/// </summary>
public class MachineChangeTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, "agent")]
    [InlineData(QemuVersion.Unpacked10, "agent")]
    [InlineData(QemuVersion.Unpacked10, "qemu")]
    public async Task A_DIMM_that_is_added_before_the_window_fails_the_capture_and_is_named(QemuVersion version, string engine)
    {
        await using var vm = await StartAsync(version);

        var outcome = await HeldCapturePoint.CaptureAsync(vm, "facts", () => AddDimmAsync(vm), $"--engine={engine}");

        AssertChanged(outcome, "dimm1 was added");
        await Machines.AssertLivesAsync(vm);
        Assert.Equal(0, (await Agent.TryCaptureAsync(vm, "next", null)).Process.ExitCode);
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, true)]
    [InlineData(QemuVersion.Unpacked10, true)]
    [InlineData(QemuVersion.Unpacked10, false)]
    public async Task A_disk_that_is_added_before_the_window_fails_the_capture_and_is_named(QemuVersion version, bool disks)
    {
        await using var vm = await StartAsync(version);

        var outcome = await HeldCapturePoint.CaptureAsync(
            vm,
            "protected-ahead",
            () => AddDiskAsync(vm),
            disks ? "--disks=all" : "--disks=none",
            "--scratch",
            vm.Folder
        );

        AssertChanged(outcome, "vdb was added");
        await Machines.AssertLivesAsync(vm);
    }

    /// <summary>For unmapped memory the kernel returns the same errno as for memory that it cannot protect.</summary>
    [SkippableTheory]
    [InlineData("auto")]
    [InlineData("agent")]
    public async Task Memory_that_is_unplugged_while_the_capture_prepares_is_named_and_the_kernel_is_not_blamed(string engine)
    {
        // A PCI Express slot that the guest has never powered releases its device at once. The device's ROM is a RAM block of its own.
        await using var vm = await Requirements.StartAsync(
            Machines.Counting(QemuVersion.Unpacked10, "q35", RamKind.Anonymous) with
            {
                Guest = new FirmwareGuest(),
                ExtraArguments =
                [
                    "-global",
                    "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
                    "-device",
                    "pcie-root-port,id=slot3,chassis=3,slot=3",
                ],
            }
        );
        await vm.Qmp.ExecuteAsync(
            "device_add",
            new JsonObject
            {
                ["driver"] = "e1000e",
                ["id"] = "card",
                ["bus"] = "slot3",
            }
        );

        var outcome = await HeldCapturePoint.CaptureAsync(
            vm,
            "userfaultfd-device-kept",
            async () =>
            {
                await vm.Qmp.ExecuteAsync("device_del", new JsonObject { ["id"] = "card" });
                await vm.Qmp.WaitForEventAsync("DEVICE_DELETED", TimeSpan.FromSeconds(60));
                // QEMU frees the memory when its last reference is gone, a little later.
                await Task.Delay(500);
            },
            $"--engine={engine}"
        );

        // If the memory still exists when the agent registers it, the agent notices the missing device after the point in time.
        var reason = outcome.Error?.Reason;
        Assert.True(outcome.Process.ExitCode == 1 && reason is "RamUnmapped" or "MachineChanged", outcome.Process.ToString());
        Assert.Equal(0, (await Agent.TryCaptureAsync(vm, "next", null)).Process.ExitCode);
    }

    /// <summary>The device is back under the same name when the agent looks again.</summary>
    [SkippableFact]
    public async Task A_device_that_goes_and_comes_back_before_the_window_fails_the_capture_and_is_named()
    {
        await using var vm = await StartAsync(QemuVersion.Unpacked10);

        var outcome = await HeldCapturePoint.CaptureAsync(vm, "protected-ahead", async () =>
        {
            await vm.Qmp.ExecuteAsync("device_del", new JsonObject { ["id"] = "tablet" });
            await vm.Qmp.WaitForEventAsync("DEVICE_DELETED", TimeSpan.FromSeconds(60));
            await vm.Qmp.ExecuteAsync("device_add", new JsonObject { ["driver"] = "usb-tablet", ["id"] = "tablet" });
        });

        AssertChanged(outcome, "tablet was removed");
        await Machines.AssertLivesAsync(vm);
    }

    /// <summary>
    /// Devices from before the reset with memory from after it would make no valid machine. Also, QEMU aborts if a guest is reset while a
    /// dump is active.
    /// </summary>
    [SkippableTheory]
    [InlineData("stop-sent", true)]
    [InlineData("protected", true)]
    [InlineData("stop-sent", false)]
    public async Task A_reset_in_the_stop_window_fails_the_capture_or_comes_after_it(string point, bool disks)
    {
        await using var vm = await StartAsync(QemuVersion.Unpacked10);
        Task reset = Task.CompletedTask;

        var outcome = await HeldCapturePoint.CaptureAsync(
            vm,
            point,
            async () =>
            {
                // QEMU may handle the request only after the window.
                reset = vm.Qmp.ExecuteAsync("system_reset");
                await Task.Delay(50);
            },
            disks ? "--disks=all" : "--disks=none",
            "--scratch",
            vm.Folder
        );

        await reset;
        Assert.True(outcome.Summary is not null || outcome.Error?.Reason == "GuestStateChanged", outcome.Process.ToString());
        if (outcome.Summary is not null)
            Assert.True(SnapshotImage.Judge(outcome.Summary.Output).IsOneCut);
        Assert.Equal("running", await vm.Qmp.RunStateAsync());
    }

    /// <summary>A device plugged in after the point in time is not in the snapshot and does no harm.</summary>
    [SkippableFact]
    public async Task What_is_added_after_the_window_harms_neither_guest_nor_snapshot()
    {
        await using var vm = await StartAsync(QemuVersion.Unpacked10);

        var outcome = await HeldCapturePoint.CaptureAsync(
            vm,
            "unprotected",
            async () =>
            {
                await AddDimmAsync(vm);
                await AddDiskAsync(vm);
            },
            "--disks=all",
            "--scratch",
            vm.Folder
        );

        Assert.True(outcome.Summary is not null, outcome.Process.ToString());
        Assert.True(SnapshotImage.Judge(outcome.Summary.Output).IsOneCut);
        await Machines.AssertLivesAsync(vm);
    }

    private static Task<VirtualMachine> StartAsync(QemuVersion version) =>
        Requirements.StartAsync(
            Machines.Counting(version, "pc", RamKind.Anonymous) with
            {
                ExtraArguments =
                [
                    "-action",
                    "reboot=reset",
                    "-m",
                    "256M,slots=2,maxmem=1G",
                    "-device",
                    "qemu-xhci",
                    "-device",
                    "usb-tablet,id=tablet",
                ],
                Disks = [new TestDisk { Name = "vda" }],
            }
        );

    private static void AssertChanged(CaptureOutcome outcome, string what)
    {
        Assert.True(outcome.Process.ExitCode == 1 && outcome.Error?.Reason == "MachineChanged", outcome.Process.ToString());
        Assert.Contains(what, outcome.Error.Message, StringComparison.Ordinal);
    }

    private static async Task AddDimmAsync(VirtualMachine vm)
    {
        await vm.Qmp.ExecuteAsync(
            "object-add",
            new JsonObject
            {
                ["qom-type"] = "memory-backend-ram",
                ["id"] = "mem1",
                ["size"] = 64 << 20,
            }
        );
        await vm.Qmp.ExecuteAsync(
            "device_add",
            new JsonObject
            {
                ["driver"] = "pc-dimm",
                ["id"] = "dimm1",
                ["memdev"] = "mem1",
            }
        );
    }

    private static async Task AddDiskAsync(VirtualMachine vm)
    {
        await vm.Qmp.ExecuteAsync(
            "blockdev-add",
            new JsonObject
            {
                ["driver"] = "null-co",
                ["node-name"] = "node-vdb",
                ["size"] = 1 << 20,
                ["read-zeroes"] = true,
            }
        );
        await vm.Qmp.ExecuteAsync(
            "device_add",
            new JsonObject
            {
                ["driver"] = "virtio-blk-pci",
                ["id"] = "vdb",
                ["drive"] = "node-vdb",
            }
        );
    }
}
