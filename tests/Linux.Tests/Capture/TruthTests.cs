using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>Every page of every block equals the page in the stop window.</summary>
public class TruthTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, "pc", RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, "q35", RamKind.Anonymous)]
    [InlineData(QemuVersion.System, "q35", RamKind.Memfd)]
    [InlineData(QemuVersion.Unpacked10, "pc", RamKind.Memfd)]
    [InlineData(QemuVersion.System, "pc", RamKind.Hugetlbfs)]
    [InlineData(QemuVersion.Unpacked10, "q35", RamKind.Hugetlbfs)]
    public async Task A_snapshot_equals_the_memory_of_the_stop_window(QemuVersion version, string machine, RamKind ram)
    {
        // A display adapter, because its memory and ROMs are small blocks that are easily mixed up.
        var options = Machines.Counting(version, machine, ram, cpus: 2) with { MemoryMiB = 192, ExtraArguments = ["-device", "VGA"] };
        await using var vm = await Requirements.StartAsync(options);
        await Machines.WarmUpAsync(vm);

        foreach (string name in (string[])["first", "second"])
        {
            using var dump = new MemoryFolder();
            var summary = await Agent.CaptureAsync(vm, name, Agent.DumpTo(dump.Path), "--engine=agent", Agent.Slowly);
            Assert.Equal("", SnapshotImage.DifferencesFromDump(summary.Output, dump.Path));
            Assert.True(summary.Faults > 0, $"{summary}");
        }

        await Machines.AssertLivesAsync(vm);
    }

    /// <summary>A folder in memory: the dump makes the stop window longer, and the agent's watchdog limits the window.</summary>
    private sealed class MemoryFolder : IDisposable
    {
        public string Path { get; } =
            Directory.CreateDirectory($"/dev/shm/bgsnap-test-{Environment.ProcessId}-{Guid.NewGuid():N}").FullName;

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }
}
