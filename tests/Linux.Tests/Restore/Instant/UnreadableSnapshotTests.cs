using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>
/// If the snapshot cannot be read once the guest runs, the guest waits and the agent reports it; the guest never reads anything else.
/// </summary>
public class UnreadableSnapshotTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous, false)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd, true)]
    public async Task The_guest_waits_until_it_can_be_read_again(QemuVersion version, RamKind ram, bool cutOff)
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(version, "pc", ram));
        var memory = Path.Combine(pair.Snapshot, "memory");
        var sound = await File.ReadAllBytesAsync(memory);
        if (!cutOff)
            Damage(memory);
        await using (var agent = await pair.RunAsync(cutOff ? InstantPair.Slowly : "--bandwidth-limit=50Mi"))
        {
            if (cutOff)
            {
                await using var file = new FileStream(memory, FileMode.Open);
                file.SetLength(4096);
            }

            await agent.WaitForOutputAsync("\"problem\":\"the guest waits", InstantPair.Patience);
            await agent.WaitForOutputAsync(cutOff ? "the file ended while it was read" : "checksum of the granule", InstantPair.Patience);
            Assert.Equal("running", await pair.Target.Qmp.RunStateAsync());
            agent.Terminate();
            var ended = RestoreOutcome.Parse(await agent.WaitAsync(InstantPair.Patience));

            Assert.Equal((130, "Cancelled"), (ended.Process.ExitCode, ended.Reason));
            Assert.Contains("The guest runs, and waits", ended.Message, StringComparison.Ordinal);
        }

        await File.WriteAllBytesAsync(memory, sound);

        await pair.AssertIsTakenOverAsync();
    }

    /// <summary>A process that keeps waiting retries by itself.</summary>
    [SkippableFact]
    public async Task It_is_tried_again_until_it_can_be_read()
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(QemuVersion.System, "pc", RamKind.Anonymous));
        var memory = Path.Combine(pair.Snapshot, "memory");
        var sound = await File.ReadAllBytesAsync(memory);
        Damage(memory);
        await using var agent = await pair.StartAsync();
        await agent.WaitForOutputAsync("\"problem\":\"the guest waits", InstantPair.Patience);

        await File.WriteAllBytesAsync(memory, sound);
        await pair.AssertEndsWellAsync(agent);
    }

    /// <summary>Flips a byte of one granule of the guest's arenas, the last one that the agent prefetches.</summary>
    private static void Damage(string memory)
    {
        using var log = PageLogReader.Open(memory);
        var block = Enumerable.Range(0, log.Blocks.Count).MaxBy(i => log.Blocks[i].UsedLength);
        var entry = default(GranuleEntry);
        for (var g = log.GranuleCount(block) - 1; entry.PageCount != 16; g--)
            entry = log.Entry(block, g);
        using var file = File.OpenHandle(memory, FileMode.Open, FileAccess.ReadWrite);
        Span<byte> one = stackalloc byte[1];
        RandomAccess.Read(file, one, entry.Offset + 100);
        one[0] ^= 1;
        RandomAccess.Write(file, one, entry.Offset + 100);
    }
}
