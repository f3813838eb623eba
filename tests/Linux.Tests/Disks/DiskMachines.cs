using System.Diagnostics;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>Machines whose guest writes to disks, and the checks of each capture of them.</summary>
internal static class DiskMachines
{
    /// <summary>The guest writes to all of these disks in turn, as fast as it can, and to a little memory too.</summary>
    public static VirtualMachineOptions Writing(QemuVersion version, params IReadOnlyList<TestDisk> disks) =>
        new()
        {
            Version = version,
            MemoryMiB = 80,
            Disks = disks,
            Guest = new LinuxGuest
            {
                Mode = "disk",
                Writers = 0,
                Disks = disks.Count(d => !d.ReadOnly && !d.IsCdrom),
                TickMilliseconds = 100,
            },
            StartTimeout = TimeSpan.FromSeconds(120),
        };

    /// <summary>Captures with all disks. Disks and memory must be of one instant, and the guest must run on.</summary>
    public static async Task<DiskVerdict> CaptureAgreesAsync(VirtualMachine vm, string name, params IEnumerable<string> options)
    {
        var snapshot = await Agent.CaptureAsync(vm, name, ["--disks=all", .. options]);
        var verdict = await SnapshotDisks.JudgeAsync(snapshot.Output);
        Assert.True(verdict.Agrees, $"{name}: {verdict}\n{snapshot}");
        await WritesOnAsync(vm, name);
        Directory.Delete(snapshot.Output, recursive: true);
        return verdict;
    }

    /// <summary>Asserts that the guest writes on to its disks, finds on them what it wrote, and runs.</summary>
    public static async Task WritesOnAsync(VirtualMachine vm, string after, TimeSpan? patience = null)
    {
        var (disk, began) = (vm.LatestReport?.Disk ?? 0, Stopwatch.GetTimestamp());
        var report = await vm.WaitForReportAsync(r => r.At > began && r.Disk > disk, $"write after {after}", patience);
        Assert.True(report.Corrupt == 0, $"{after}: {vm.Describe()}");
        Assert.Equal("running", await vm.Qmp.RunStateAsync());
    }
}
