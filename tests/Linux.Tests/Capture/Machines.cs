using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>The machines that captures are tried on.</summary>
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

    /// <summary>Every writer has gone round once, so that its pages hold two numbers wherever it is.</summary>
    public static Task<GuestReport> WarmUpAsync(VirtualMachine vm) =>
        vm.WaitForReportAsync(r => r.Writes > 4 * 24 * 256 * 3, "the guest's first rounds");

    /// <summary>The guest goes on and finds nothing wrong in its memory.</summary>
    public static async Task AssertLivesAsync(VirtualMachine vm, int ticks = 3)
    {
        var report = await vm.WaitForMoreTicksAsync(ticks);
        Assert.True(report.Corrupt == 0, vm.Describe());
    }
}
