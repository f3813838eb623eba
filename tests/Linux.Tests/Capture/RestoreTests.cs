using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>A restored guest continues where it was captured and finds its memory intact.</summary>
public class RestoreTests
{
    private const int Ticks = 4;

    [SkippableTheory]
    [InlineData("agent", QemuVersion.System, "pc", RamKind.Anonymous)]
    [InlineData("agent", QemuVersion.Unpacked10, "q35", RamKind.Memfd)]
    [InlineData("agent", QemuVersion.System, "q35", RamKind.Hugetlbfs)]
    [InlineData("qemu", QemuVersion.Unpacked10, "pc", RamKind.Anonymous)]
    [InlineData("qemu", QemuVersion.Unpacked10, "q35", RamKind.Memfd)]
    [InlineData("qemu", QemuVersion.Unpacked10, "q35", RamKind.Hugetlbfs)]
    public async Task A_snapshot_lives_in_a_stock_QEMU_and_by_restore(string engine, QemuVersion version, string machine, RamKind ram)
    {
        var options = Machines.Counting(version, machine, ram, cpus: 2);
        await using var source = await Requirements.StartAsync(options);
        var snapshot = await CaptureAsync(source, engine);

        await AssertGoesOnInStockQemuAsync(source, snapshot, options);
        await AssertGoesOnByRestoreAsync(source, snapshot, options);
    }

    [SkippableTheory]
    [InlineData("pc-i440fx-7.2", RamKind.Anonymous)]
    [InlineData("pc-q35-7.2", RamKind.Memfd)]
    public async Task A_snapshot_of_QEMU_7_lives_in_QEMU_10(string machine, RamKind ram)
    {
        var options = Machines.Counting(QemuVersion.System, machine, ram);
        await using var source = await Requirements.StartAsync(options);
        var snapshot = await CaptureAsync(source, "agent");

        await AssertGoesOnInStockQemuAsync(source, snapshot, options with { Version = QemuVersion.Unpacked10 });
        await AssertGoesOnByRestoreAsync(source, snapshot, options with { Version = QemuVersion.Unpacked10 });
    }

    private static async Task<CaptureNumbers> CaptureAsync(VirtualMachine source, string engine)
    {
        await Machines.WarmUpAsync(source);
        var snapshot = await Agent.CaptureAsync(source, "snapshot", $"--engine={engine}", Agent.Slowly);
        Assert.Equal(engine, snapshot.Engine);
        var verdict = SnapshotImage.Judge(snapshot.Output);
        Assert.True(verdict.IsOneCut, verdict.ToString());
        await Machines.AssertLivesAsync(source);
        // Frees the host's cores for the restored machines, and keeps the source's output.
        await source.StopVcpusAsync();
        return snapshot;
    }

    private static async Task AssertGoesOnInStockQemuAsync(VirtualMachine source, CaptureNumbers snapshot, VirtualMachineOptions options)
    {
        string stream = await Agent.ExportAsync(snapshot.Output);
        await using var restored = await VirtualMachine.StartAsync(options with { Incoming = $"exec:cat {stream}" });
        await AssertGoesOnAsync(source, snapshot, restored);
    }

    private static async Task AssertGoesOnByRestoreAsync(VirtualMachine source, CaptureNumbers snapshot, VirtualMachineOptions options)
    {
        await using var restored = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        await Agent.RestoreAsync(snapshot.Output, restored);
        await AssertGoesOnAsync(source, snapshot, restored);
    }

    /// <summary>
    /// The restored guest's first whole line continues, write for write, a line that the source printed: the source's last line before the
    /// point in time, or the one that it was printing then.
    /// </summary>
    private static async Task AssertGoesOnAsync(VirtualMachine source, CaptureNumbers snapshot, VirtualMachine restored)
    {
        var first = await restored.WaitForTickAsync(1);
        var later = await restored.WaitForTickAsync(first.Tick + Ticks);

        var pointInTime =
            Stopwatch.GetTimestamp() - (long)((DateTimeOffset.UtcNow - snapshot.PointInTime).TotalSeconds * Stopwatch.Frequency);
        var captured = source.Serial.Reports.Last(r => r.At <= pointInTime);
        var before = source.Serial.Reports.Single(r => r.Tick == first.Tick - 1);
        Assert.InRange(first.Tick, captured.Tick, captured.Tick + 2);
        Assert.Equal(before.Writes, first.Writes - first.Delta);
        Assert.True(first.Corrupt == 0 && later.Corrupt == 0, restored.Describe());
        Assert.True(later.Checked > first.Checked, restored.Describe());
        Assert.Equal("running", await restored.Qmp.RunStateAsync());
    }
}
