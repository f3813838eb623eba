using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>
/// A machine whose device state is smaller than a page: QEMU has written all of it, and continues, before the agent has read a byte.
/// </summary>
public class SmallDeviceStateTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task The_guest_does_not_run_before_its_memory_is_protected(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Version = version,
                Machine = "microvm",
                MemoryMiB = 64,
                Guest = new FirmwareGuest(),
            }
        );
        var reached = Path.Combine(vm.Folder, "reached");
        List<string> states = [];

        // If the capture needs several windows, the snapshot is that of the last one.
        var capturing = Agent.TryCaptureAsync(vm, "snapshot", Agent.Hook($"wait:stopped:0:{reached}"), "--engine=agent");
        for (; !capturing.IsCompleted; await Task.Delay(5))
        {
            if (!File.Exists(reached))
                continue;
            await Task.Delay(50);
            states.Add(await vm.Qmp.RunStateAsync());
            File.Delete(reached);
        }

        var outcome = await capturing;
        Assert.True(outcome.Summary is { Paused: false, DowntimeMicroseconds: > 0 }, outcome.Process.ToString());
        Assert.NotEqual("running", states[^1]);
        Assert.Equal("running", await vm.Qmp.RunStateAsync());
    }
}
