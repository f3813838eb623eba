using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Protection;

/// <summary>
/// QEMU's devices may write to the guest's memory while the guest is stopped and saved (a TPM that finishes its command, a virtio queue
/// that is drained): the write must get through at every moment of the stop window. Here another process stands in for the device; its
/// write through /proc/PID/mem faults as QEMU's own does.
/// </summary>
public class DeviceWriteTests
{
    // In the first 64 KiB, which the guest's kernel does not use.
    private const long Place = 0x8000;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    /// <summary>Before the agent protects the memory again, after that, and after it has released QEMU.</summary>
    [SkippableTheory]
    [InlineData("protected-ahead")]
    [InlineData("stop-sent")]
    [InlineData("stopped")]
    [InlineData("protected")]
    public async Task A_write_in_the_stop_window_is_let_through(string point)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(QemuVersion.System, "q35", RamKind.Anonymous));
        await Machines.WarmUpAsync(vm);
        using var memory = await vm.OpenMemoryAsync();
        memory.Write(Place, [1]);
        var file = Path.Combine(vm.Folder, "point");

        var capture = Agent.TryCaptureAsync(vm, "snapshot", Agent.Hook($"wait:{point}:1:{file}"), "--engine=agent", "--max-downtime=60s");
        await Task.WhenAny(capture, Task.Run(() => SpinWait.SpinUntil(() => File.Exists(file), Patience)));
        var write = Task.Run(() => memory.Write(Place, [2]));
        var written = await Task.WhenAny(write, capture, Task.Delay(Patience)) == write;
        File.Delete(file);

        Assert.True(written, "the write waits");
        var outcome = await capture;
        // The agent's watchdog may have ended a capture that was stuck for so long.
        Assert.True(outcome.Process.ExitCode == 0 || outcome.Error?.Reason == "AgentDied", outcome.Process.ToString());
        await Machines.AssertLivesAsync(vm);
    }

    /// <summary>
    /// The agent holds the guest for its storage's snapshot, with the memory protected; what is written then must not be in the snapshot.
    /// </summary>
    [SkippableFact]
    public async Task A_write_while_the_guest_is_held_is_let_through_and_is_younger_than_the_snapshot()
    {
        TestDisk[] disks = [new() { Name = "vda" }];
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(QemuVersion.System, disks));
        using var memory = await vm.OpenMemoryAsync();
        memory.Write(Place, [1]);
        await using var capture = await HeldCapture.StartAsync(vm, "held", "--max-downtime=60s");
        _ = await capture.HeldAsync();

        var write = Task.Run(() => memory.Write(Place, [2]));
        var written = await Task.WhenAny(write, Task.Delay(Patience)) == write;
        await capture.SayAsync("release vda=snap");

        Assert.True(written, "the write waits for the storage");
        var (code, last) = await capture.EndAsync();
        Assert.True(code == 0, last);
        using var image = SnapshotImage.Open(Path.Combine(vm.Folder, "held"));
        Assert.Equal(1, image.ByteAt(Place));
    }
}
