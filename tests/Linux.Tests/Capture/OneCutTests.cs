using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>A snapshot shows one instant, whatever the guest wrote during the capture.</summary>
public class OneCutTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, "pc", RamKind.Anonymous, 1)]
    [InlineData(QemuVersion.Unpacked10, "pc", RamKind.Anonymous, 4)]
    [InlineData(QemuVersion.System, "q35", RamKind.Memfd, 4)]
    [InlineData(QemuVersion.Unpacked10, "q35", RamKind.Memfd, 1)]
    [InlineData(QemuVersion.System, "q35", RamKind.Hugetlbfs, 1)]
    [InlineData(QemuVersion.Unpacked10, "pc", RamKind.Hugetlbfs, 4)]
    public async Task A_snapshot_of_a_writing_guest_is_one_cut(QemuVersion version, string machine, RamKind ram, int cpus)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(version, machine, ram, cpus));
        await Machines.WarmUpAsync(vm);

        await AssertOneCutAsync(vm, "fast", mustFault: false);
        await AssertOneCutAsync(vm, "slow", mustFault: true, Agent.Slowly);
        await AssertOneCutAsync(vm, "again", mustFault: true, Agent.Slowly);

        await Machines.AssertLivesAsync(vm);
    }

    [SkippableTheory]
    [InlineData("lz4")]
    [InlineData("zstd")]
    public async Task A_compressed_snapshot_is_one_cut(string compression)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(QemuVersion.System, "pc", RamKind.Anonymous));
        await Machines.WarmUpAsync(vm);

        await AssertOneCutAsync(vm, "snapshot", mustFault: true, Agent.Slowly, $"--compression={compression}");

        await Machines.AssertLivesAsync(vm);
    }

    [SkippableTheory]
    [InlineData(RamKind.Anonymous)]
    [InlineData(RamKind.Memfd)]
    public async Task A_snapshot_on_a_kernel_without_PAGEMAP_SCAN_is_one_cut(RamKind ram)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(QemuVersion.Unpacked10, "q35", ram));
        await Machines.WarmUpAsync(vm);

        var summary = await Agent.CaptureAsync(vm, "snapshot", Agent.Hook("deny:pagemap-scan"), "--engine=agent", Agent.Slowly);

        AssertOneCut(summary);
        Assert.True(summary.Faults > 0, $"{summary}");
        await Machines.AssertLivesAsync(vm);
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task A_snapshot_of_a_guest_under_KVM_is_one_cut(QemuVersion version, RamKind ram)
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Version = version,
                Accelerator = Accelerator.Kvm,
                MemoryMiB = 128,
                Ram = ram,
                Guest = new BootSectorGuest(),
            }
        );
        await vm.WaitForTickAsync(2);
        foreach (string name in (string[])["first", "second", "third"])
        {
            var summary = await Agent.CaptureAsync(vm, name, "--engine=agent", Agent.Slowly);
            var verdict = SnapshotImage.JudgeBootSector(summary.Output);
            Assert.True(verdict.IsOneCut, $"{verdict}\n{summary}");
            Assert.True(summary.Faults > 0, $"{summary}");
        }

        await Machines.AssertLivesAsync(vm, ticks: 2);
    }

    /// <summary>The negative control: without it, the other tests prove nothing.</summary>
    [SkippableTheory]
    [InlineData(RamKind.Anonymous)]
    [InlineData(RamKind.Memfd)]
    public async Task A_snapshot_without_protection_is_torn(RamKind ram)
    {
        await using var vm = await Requirements.StartAsync(Machines.Counting(QemuVersion.System, "q35", ram));
        await Machines.WarmUpAsync(vm);

        var summary = await Agent.CaptureAsync(vm, "snapshot", Agent.Hook("skip:protection"), "--engine=agent", Agent.Slowly);

        Assert.Equal(Cut.Torn, SnapshotImage.Judge(summary.Output).Cut);
        await Machines.AssertLivesAsync(vm);
    }

    private static async Task AssertOneCutAsync(VirtualMachine vm, string name, bool mustFault, params string[] options)
    {
        var summary = await Agent.CaptureAsync(vm, name, ["--engine=agent", .. options]);
        AssertOneCut(summary);
        Assert.True(!mustFault || summary.Faults > 0, $"{summary}");
    }

    private static void AssertOneCut(CaptureNumbers summary)
    {
        var verdict = SnapshotImage.Judge(summary.Output);
        Assert.True(verdict.IsOneCut, $"{verdict}\n{summary}");
        Assert.Equal(3, verdict.Writers.Count);
    }
}
