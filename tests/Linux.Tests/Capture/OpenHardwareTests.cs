using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>
/// QEMU opens hardware that reaches guest memory by itself between the agent's first look and the point in time. A file with such a name
/// stands for the hardware: the agent goes by the names of what QEMU has open.
/// </summary>
public sealed class OpenHardwareTests : IDisposable
{
    private readonly string _device = $"/dev/ng-bgsnap-test-{Guid.NewGuid():N}";

    [SkippableTheory]
    [InlineData("facts", "agent", "none")]
    [InlineData("protected-ahead", "agent", "none")]
    [InlineData("protected-ahead", "agent", "all")]
    [InlineData("facts", "qemu", "none")]
    [InlineData("stop-sent", "qemu", "all")]
    public async Task What_QEMU_opens_before_the_window_fails_the_capture_and_is_named(string point, string engine, string disks)
    {
        await using var vm = await StartAsync();

        var outcome = await HeldCapturePoint.CaptureAsync(
            vm,
            point,
            () => OpenAsync(vm),
            $"--engine={engine}",
            $"--disks={disks}",
            "--scratch",
            vm.Folder
        );

        Assert.True(outcome.Error is { Reason: "MachineChanged", ExitCode: 1 }, outcome.Process.ToString());
        Assert.Contains(_device, outcome.Error.Message, StringComparison.Ordinal);
        await Machines.AssertLivesAsync(vm);

        var next = await Agent.TryCaptureAsync(vm, "next", null, $"--engine={engine}", "--disks=none");
        Assert.True(next.Error is { Reason: "DeviceUnsupported", ExitCode: 3 }, next.Process.ToString());
        await Machines.AssertLivesAsync(vm);
    }

    private static Task<VirtualMachine> StartAsync() =>
        Requirements.StartAsync(
            Machines.Counting(QemuVersion.Unpacked10, "pc", RamKind.Anonymous) with
            {
                Disks = [new TestDisk { Name = "vda" }],
            }
        );

    private async Task OpenAsync(VirtualMachine vm) =>
        await vm.Qmp.ExecuteAsync(
            "chardev-add",
            new JsonObject
            {
                ["id"] = "hardware",
                ["backend"] = new JsonObject
                {
                    ["type"] = "file",
                    ["data"] = new JsonObject { ["out"] = _device },
                },
            }
        );

    public void Dispose() => File.Delete(_device);
}
