using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>
/// Memory that a guest gives back to its host while memory follows is zero from then on, even where it had not arrived yet, and the guest
/// lives.
/// </summary>
public class GivenBackMemoryTests
{
    private const int SpareMiB = 48,
        PagesOfMiB = 256;
    private const string Slowly = "--bandwidth-limit=8Mi";

    /// <summary>
    /// The guest frees memory by itself, and its kernel reports that to QEMU. With shared memory such a machine cannot be captured.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task Free_pages_may_be_reported_meanwhile(QemuVersion version)
    {
        await using var pair = await InstantPair.MakeAsync(
            InstantMachines.Ballooning(version, RamKind.Anonymous, SpareMiB, "free-page-reporting=on")
        );
        await using var agent = await pair.RunAsync(Slowly);

        await pair.Target.MoveSpareAsync("given");
        var data = await WaitForDiscardsAsync(pair, agent);
        await pair.AssertEndsWellAsync(agent);

        await AssertNoneCameBackAsync(pair.Target, data);
        await pair.Target.MoveSpareAsync("taken");
        await InstantMachines.AssertAllOfItIsRightAsync(pair.Target);
    }

    /// <summary>The balloon takes memory that the guest had used and freed before the capture.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task A_balloon_may_take_memory_meanwhile(QemuVersion version, RamKind ram)
    {
        const int LeftMiB = 170; // less is left than was never used
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Ballooning(version, ram, SpareMiB), source =>
            source.MoveSpareAsync("given")
        );
        await using var agent = await pair.RunAsync(Slowly);

        await InstantMachines.InflateAsync(pair.Target, LeftMiB);
        var data = await WaitForDiscardsAsync(pair, agent);
        await pair.AssertEndsWellAsync(agent);

        await AssertNoneCameBackAsync(pair.Target, data);
    }

    /// <summary>
    /// Waits until QEMU has discarded half of the freed memory, and the restore has recorded that, while memory still arrives.
    /// </summary>
    private static async Task<IReadOnlyDictionary<ulong, byte[]>> WaitForDiscardsAsync(InstantPair pair, AgentProcess agent)
    {
        for (var end = DateTime.UtcNow + InstantPair.Patience; ; await Task.Delay(50))
        {
            Assert.False(agent.HasEnded, agent.StandardOutput);
            var data = RestoreMap.WithData(RestoreMap.Of(pair.Target).Removed(), pair.Snapshot);
            if (data.Count >= SpareMiB * PagesOfMiB / 2)
                return data;
            Assert.True(DateTime.UtcNow < end, $"of what was freed {data.Count} pages were discarded\n{pair.Target.Describe()}");
        }
    }

    /// <summary>Asserts that none of the pages holds its content of the snapshot; the guest may have written something else.</summary>
    private static async Task AssertNoneCameBackAsync(VirtualMachine target, IReadOnlyDictionary<ulong, byte[]> data)
    {
        await target.StopVcpusAsync();
        using (var memory = await target.OpenMemoryAsync())
        {
            var page = new byte[4096];
            var back = data.Count(d =>
                memory.Read((long)d.Key - memory.HostAddress, page) == page.Length && page.AsSpan().SequenceEqual(d.Value)
            );
            Assert.True(back == 0, $"{back} of {data.Count} pages that were thrown away hold what the snapshot has there");
        }

        await target.ContinueVcpusAsync();
    }
}
