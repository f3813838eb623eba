using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>Many machines restored from one snapshot at the same moment.</summary>
[Collection(Alone.Name)]
public class ManyRestoresTests
{
    private const int Machines = 10,
        MiB = 32,
        Pages = MiB * 256;

    [SkippableFact]
    public async Task Ten_machines_come_from_one_snapshot_that_is_read_once()
    {
        var options = new VirtualMachineOptions
        {
            MemoryMiB = 128,
            Guest = new LinuxGuest { MiB = MiB, Fill = "random" },
        };
        await using var source = await Requirements.StartAsync(options);
        await using var volume = await LoopVolume.OfAsync(await InstantMachines.SnapshotAsync(source), source.Folder);
        List<VirtualMachine> targets = [];
        try
        {
            for (var i = 0; i < Machines; i++)
                targets.Add(await VirtualMachine.StartAsync(options with { Incoming = "defer" }));
            volume.DropCache();
            var before = volume.BytesRead;

            _ = await Task.WhenAll(targets.Select(t => InstantMachines.RestoreAsync(volume.Folder, t)));

            // Separately they would read ten times as much from the device; here one reads, and the others find the data in the page cache.
            var read = volume.BytesRead - before;
            var size = Directory.EnumerateFiles(volume.Folder).Sum(f => new FileInfo(f).Length);
            Assert.True(read > size / 2 && read < size * 3 / 2, $"{read} bytes were read of a snapshot of {size}");
            foreach (var target in targets)
            {
                InstantMachines.AssertNothingIsLeft(target);
                await InstantMachines.AssertAllOfItIsRightAsync(target, Pages);
            }
        }
        finally
        {
            foreach (var target in targets)
                await target.DisposeAsync();
        }
    }
}
