using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>The user pauses or resumes the guest while QEMU's own engine captures it with its disks.</summary>
public class QemuEngineRunStateTests
{
    /// <summary>Hook points: right before the agent stops the guest, and between that stop and QEMU's snapshot.</summary>
    private const string BeforeStop = "armed",
        AfterStop = "stop-sent";

    /// <summary>The disks are cut after the guest has run on: they would be newer than the stop, and older than QEMU's own stop.</summary>
    [SkippableFact]
    public async Task A_guest_that_its_user_resumes_after_our_stop_runs_and_nothing_is_kept()
    {
        await using var vm = await StartAsync();

        var outcome = await CaptureAsync(vm, AfterStop, async () =>
        {
            await vm.ContinueVcpusAsync();
            await DiskMachines.WritesOnAsync(vm, "its user resumed it");
        });

        await ChangedAsync(vm, outcome);
        await DiskMachines.WritesOnAsync(vm, "the capture");
        await DiskMachines.CaptureAgreesAsync(vm, "next", "--engine=qemu", "--scratch", vm.Folder);
    }

    [SkippableFact]
    public async Task A_guest_that_its_user_pauses_before_our_stop_stays_paused_and_nothing_is_kept()
    {
        await using var vm = await StartAsync();

        var outcome = await CaptureAsync(vm, BeforeStop, vm.StopVcpusAsync);

        await ChangedAsync(vm, outcome);
        Assert.Equal("paused", await vm.Qmp.RunStateAsync());
        await vm.ContinueVcpusAsync();
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    /// <summary>Two changes by the user, after which the guest looks as it did.</summary>
    [SkippableFact]
    public async Task A_guest_that_its_user_resumes_and_pauses_after_our_stop_is_not_captured()
    {
        await using var vm = await StartAsync();

        var outcome = await CaptureAsync(vm, AfterStop, async () =>
        {
            await vm.ContinueVcpusAsync();
            await DiskMachines.WritesOnAsync(vm, "its user resumed it");
            await vm.StopVcpusAsync();
        });

        await ChangedAsync(vm, outcome);
        Assert.Equal("paused", await vm.Qmp.RunStateAsync());
        await vm.ContinueVcpusAsync();
        await DiskMachines.WritesOnAsync(vm, "the capture");
    }

    private static Task<VirtualMachine> StartAsync() =>
        Requirements.StartAsync(DiskMachines.Writing(QemuVersion.Unpacked10, new TestDisk { Name = "vda" }) with { MemoryMiB = 128 });

    private static Task<CaptureOutcome> CaptureAsync(VirtualMachine vm, string point, Func<Task> meanwhile) =>
        HeldCapturePoint.CaptureAsync(vm, point, meanwhile, "--engine=qemu", "--disks=all", "--scratch", vm.Folder);

    private static async Task ChangedAsync(VirtualMachine vm, CaptureOutcome outcome)
    {
        Assert.True(outcome.Error is { Reason: "GuestStateChanged", ExitCode: 1 }, outcome.Process.ToString());
        Assert.False(Directory.Exists(Path.Combine(vm.Folder, "snapshot")));
        var capabilities = await vm.Qmp.ExecuteAsync("query-migrate-capabilities");
        Assert.DoesNotContain(capabilities.EnumerateArray(), c => c.GetProperty("state").GetBoolean());
    }
}
