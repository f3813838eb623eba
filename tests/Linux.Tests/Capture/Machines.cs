using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>The machines that the capture tests use.</summary>
internal static class Machines
{
    public static VirtualMachineOptions Counting(QemuVersion version, string machine, RamKind ram, int cpus = 1) =>
        new()
        {
            Version = version,
            Machine = machine,
            Ram = ram,
            Cpus = cpus,
            MemoryMiB = 256,
            Guest = new LinuxGuest
            {
                Writers = 3,
                MiB = 24,
                Fill = "random",
            },
        };

    /// <summary>Waits until every writer has completed one pass, so that its pages hold two different numbers at any moment.</summary>
    public static Task<GuestReport> WarmUpAsync(VirtualMachine vm) =>
        vm.WaitForReportAsync(r => r.Writes > 4 * 24 * 256 * 3, "the guest's first rounds");

    /// <summary>Asserts that the guest runs on and finds no error in its memory.</summary>
    public static async Task AssertLivesAsync(VirtualMachine vm, int ticks = 3)
    {
        var report = await vm.WaitForMoreTicksAsync(ticks);
        Assert.True(report.Corrupt == 0, vm.Describe());
    }
}
