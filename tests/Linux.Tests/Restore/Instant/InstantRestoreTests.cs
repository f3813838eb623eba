using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>The guest runs before its memory has arrived, and never sees anything but the captured content.</summary>
public class InstantRestoreTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, "pc", RamKind.Anonymous, false)]
    [InlineData(QemuVersion.System, "q35", RamKind.Memfd, false)]
    [InlineData(QemuVersion.Unpacked10, "q35", RamKind.Anonymous, true)]
    [InlineData(QemuVersion.Unpacked10, "pc", RamKind.Memfd, true)]
    [InlineData(QemuVersion.Unpacked10, "q35", RamKind.Hugetlbfs, false)]
    public async Task A_guest_runs_on_while_its_memory_follows(QemuVersion version, string machine, RamKind ram, bool inLauncher)
    {
        var options = InstantMachines.Checking(version, machine, ram);
        await using var source = await Requirements.StartAsync(options);
        var snapshot = await InstantMachines.SnapshotAsync(source);
        var waiting = options with { Incoming = "defer", ExtraArguments = ram == RamKind.Hugetlbfs ? [] : ["-mem-prealloc"] };
        await using var target = await VirtualMachine.StartAsync(inLauncher ? waiting.AsInLauncher() : waiting);

        // So slowly that the guest has to wait for most of the pages that it touches.
        var outcome = await InstantMachines.RestoreAsync(snapshot, target, "--bandwidth-limit=50Mi");

        Assert.True(InstantMachines.InstantOf(outcome).GetProperty("faults").GetInt64() > 10, outcome.ToString());
        var run = outcome.Last.GetProperty("timeToRunMicroseconds").GetInt64();
        Assert.True(run < outcome.Last.GetProperty("totalMicroseconds").GetInt64(), outcome.ToString());
        Assert.Contains(outcome.Progress, p =>
            p.GetProperty("phase").GetString() == "Running" && p.GetProperty("percent").GetDouble() < 100
        );
        // The guest had continued before everything had arrived: it reported in that time.
        Assert.True((target.LatestReport?.Tick ?? 0) > 0, $"{outcome}\n{target.Describe()}");
        InstantMachines.AssertNothingIsLeft(target);
        await InstantMachines.AssertAllOfItIsRightAsync(target);
        // The guest continued; it did not boot.
        Assert.True(target.Serial.Reports[0].Tick > 1, target.Describe());
    }

    /// <summary>
    /// A page that is still missing at the end is zero; content that was preallocated and written before does not show through.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task Every_byte_is_back(QemuVersion version, RamKind ram)
    {
        var machine = InstantMachines.Bare(version, ram);
        await using var source = await Requirements.StartAsync(machine);
        await InstantMachines.WriteWithHolesAsync(source);
        var snapshot = (await Agent.CaptureAsync(source, "snapshot", "--compression=zstd")).Output;
        var truth = await File.ReadAllBytesAsync(await source.DumpMemoryAsync());
        await using var target = await VirtualMachine.StartAsync(machine with { Incoming = "defer", Paused = true });
        using (var memory = await target.OpenMemoryAsync())
            memory.Write(100 << 20, [1, 2, 3, 4]);

        var outcome = await InstantMachines.RestoreAsync(snapshot, target);

        Assert.Equal("paused", outcome.Last.GetProperty("guestState").GetString());
        var restored = await File.ReadAllBytesAsync(await target.DumpMemoryAsync());
        Assert.True(truth.AsSpan().SequenceEqual(restored), "memory differs");
        InstantMachines.AssertNothingIsLeft(target);
    }

    [SkippableTheory]
    [InlineData(RamKind.Anonymous)]
    [InlineData(RamKind.Memfd)]
    public async Task Under_KVM_a_bare_metal_guest_finds_every_page(RamKind ram)
    {
        var options = new VirtualMachineOptions
        {
            Accelerator = Accelerator.Kvm,
            Ram = ram,
            MemoryMiB = 256,
            Guest = new BootSectorGuest(),
        };
        await using var source = await Requirements.StartAsync(options);
        await source.WaitForTickAsync(2);
        var snapshot = await InstantMachines.SnapshotAsync(source);
        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });

        var outcome = await InstantMachines.RestoreAsync(snapshot, target, "--bandwidth-limit=30Mi");

        Assert.True(InstantMachines.InstantOf(outcome).GetProperty("faults").GetInt64() > 10, outcome.ToString());
        // The guest's passes check every page of 1 to 101 MiB.
        var first = await target.WaitForTickAsync(1);
        var later = await target.WaitForTickAsync(first.Tick + 3, TimeSpan.FromSeconds(60));
        Assert.True(later.Corrupt == 0, target.Describe());
        InstantMachines.AssertNothingIsLeft(target);
    }
}
