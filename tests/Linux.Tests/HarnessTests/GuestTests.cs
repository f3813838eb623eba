using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.HarnessTests;

/// <summary>Each kind of guest boots and counts in each kind of machine, and the scanners see its true state.</summary>
public class GuestTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, "pc", RamKind.Anonymous, 1, 2)]
    [InlineData(QemuVersion.System, "q35", RamKind.Memfd, 4, 3)]
    [InlineData(QemuVersion.System, "pc", RamKind.Hugetlbfs, 1, 1)]
    [InlineData(QemuVersion.Unpacked10, "q35", RamKind.Anonymous, 4, 3)]
    [InlineData(QemuVersion.Unpacked10, "pc", RamKind.Memfd, 1, 1)]
    [InlineData(QemuVersion.Unpacked10, "q35", RamKind.Hugetlbfs, 2, 2)]
    public async Task Linux_counts_and_its_stopped_memory_is_one_cut(
        QemuVersion version,
        string machine,
        RamKind ram,
        int cpus,
        int writers
    )
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Version = version,
                Machine = machine,
                Ram = ram,
                Cpus = cpus,
                Guest = new LinuxGuest
                {
                    MiB = 32,
                    Writers = writers,
                    Fill = "random",
                },
            }
        );

        var report = await vm.WaitForTickAsync(3);
        await vm.StopVcpusAsync();
        using var memory = await vm.OpenMemoryAsync();
        var verdict = ImageScanner.Judge(memory.Length, memory.Read);

        Assert.Equal(0, report.Corrupt);
        Assert.True(report.Writes > 10_000, vm.Describe());
        Assert.True(verdict.IsOneCut, verdict.ToString());
        Assert.Equal(writers, verdict.Writers.Count);
        Assert.All(verdict.Writers, writer => Assert.Equal(32 * 256, writer.Found));

        await vm.ContinueVcpusAsync();
        Assert.Equal(0, (await vm.WaitForMoreTicksAsync(2)).Corrupt);
    }

    [SkippableTheory]
    [InlineData("bench", false)]
    [InlineData("count", true)]
    [InlineData("idle", false)]
    public async Task Every_mode_counts_without_corruption(string mode, bool hugePages)
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Guest = new LinuxGuest { Mode = mode, HugePages = hugePages },
            }
        );

        var report = await vm.WaitForTickAsync(2);
        var verdict = await JudgeStoppedAsync(vm);

        Assert.Equal(0, report.Corrupt);
        Assert.Equal(mode == "idle", report.Writes == 0);
        Assert.True(verdict.IsOneCut, verdict.ToString());
    }

    [SkippableFact]
    public async Task The_fixed_rate_writer_keeps_its_rate_and_tells_its_latencies()
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Cpus = 2,
                Guest = new LinuxGuest { Mode = "rate", Rate = 5000 },
            }
        );

        await vm.WaitForReportAsync(_ => vm.Serial.Latencies.Count >= 2, "two lines of latencies");
        var latencies = vm.Serial.Latencies[1];
        var verdict = await JudgeStoppedAsync(vm);

        Assert.InRange(latencies.Count, 500, 5500); // less on a busy host
        Assert.True(latencies.P50 > TimeSpan.Zero && latencies.P50 <= latencies.P99 && latencies.P99 <= latencies.Max);
        Assert.True(verdict.IsOneCut, verdict.ToString());
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, "pc", Accelerator.Kvm, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, "pc", Accelerator.Kvm, RamKind.Memfd)]
    [InlineData(QemuVersion.System, "q35", Accelerator.Tcg, RamKind.Hugetlbfs)]
    [InlineData(QemuVersion.Unpacked10, "q35", Accelerator.Tcg, RamKind.Anonymous)]
    public async Task The_boot_sector_counts_and_its_stopped_memory_is_one_cut(
        QemuVersion version,
        string machine,
        Accelerator accelerator,
        RamKind ram
    )
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Version = version,
                Machine = machine,
                Accelerator = accelerator,
                Ram = ram,
                MemoryMiB = 128,
                Guest = new BootSectorGuest(),
            }
        );

        var report = await vm.WaitForTickAsync(3);
        await vm.StopVcpusAsync();
        using var memory = await vm.OpenMemoryAsync();
        var verdict = BootSectorScanner.Judge(memory.Length, memory.Read);

        Assert.Equal(0, report.Corrupt);
        Assert.True(verdict.IsOneCut, verdict.ToString());
        Assert.InRange(verdict.Writers[0].Counter, 3ul, ulong.MaxValue);
    }

    [SkippableFact]
    public async Task A_copy_of_a_running_guests_memory_is_torn()
    {
        await using var vm = await Requirements.StartAsync(new VirtualMachineOptions());
        await vm.WaitForTickAsync(2);

        // Not by pmemsave, which holds QEMU's lock while the vCPU soon waits for it.
        using var memory = await vm.OpenMemoryAsync();
        // On a busy host the guest may not have run during one copy.
        var running = ImageScanner.Judge(memory.Length, memory.Read);
        for (var i = 0; i < 20 && running.Cut != Cut.Torn; i++)
            running = ImageScanner.Judge(memory.Length, memory.Read);
        await vm.StopVcpusAsync();
        var stopped = ImageScanner.JudgeFile(await vm.DumpMemoryAsync());

        Assert.Equal(Cut.Torn, running.Cut);
        Assert.True(stopped.IsOneCut, stopped.ToString());
    }

    [SkippableTheory]
    [InlineData(0, "count", "random")] // the counter
    [InlineData(8, "count", "zero")] // the magic
    [InlineData(2048, "count", "random")] // the filler
    [InlineData(4088, "idle", "zero")] // the counter at the page's end
    public async Task The_guest_finds_a_page_that_somebody_else_wrote_to(int where, string mode, string fill)
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Guest = new LinuxGuest
                {
                    Mode = mode,
                    MiB = 4,
                    Fill = fill,
                },
            }
        );

        Assert.Equal(0, (await vm.WaitForTickAsync(2)).Corrupt);
        await vm.StopVcpusAsync();
        using (var memory = await vm.OpenMemoryAsync())
            memory.Write(FindPage(memory, index: 700) + where, [0xde, 0xad, 0xbe, 0xef]);
        await vm.ContinueVcpusAsync();

        var report = await vm.WaitForReportAsync(r => r.Corrupt > 0, "the guest to notice");
        Assert.Equal(1, report.Corrupt);
    }

    private static async Task<CutVerdict> JudgeStoppedAsync(VirtualMachine vm)
    {
        await vm.StopVcpusAsync();
        using var memory = await vm.OpenMemoryAsync();
        return ImageScanner.Judge(memory.Length, memory.Read);
    }

    private static long FindPage(GuestMemory memory, int index)
    {
        Span<byte> header = stackalloc byte[32];
        for (long offset = 0; offset < memory.Length; offset += ImageScanner.PageSize)
        {
            memory.Read(offset, header);
            if (BitConverter.ToUInt64(header[8..]) == ImageScanner.Magic && BitConverter.ToInt32(header[24..]) == index)
                return offset;
        }

        throw new InvalidOperationException("The page is not in the guest's memory.");
    }
}
