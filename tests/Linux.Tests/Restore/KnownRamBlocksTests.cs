using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>A second search for RAM blocks uses the result of the first only where the process still agrees.</summary>
public class KnownRamBlocksTests
{
    [SkippableFact]
    public async Task What_was_found_is_believed_only_while_it_stands_there()
    {
        // QEMU 7.2 does not say where its blocks are, so the agent searches for them.
        await using var machine = await Requirements.StartAsync(new VirtualMachineOptions { MemoryMiB = 64, Guest = new FirmwareGuest() });
        using var qmp = QmpClient.Connect(machine.QmpSocket);
        using var process = CheckedProcess.Open(machine.Pid);
        List<RamBlockLine> known = [];
        var first = RamBlockTable.Read(qmp, process, ref known);
        Assert.All(known, k => Assert.True(RamBlockFinder.StandsAsFound(process, k), k.ToString()));
        var found = known;

        Assert.Equal(first, RamBlockTable.Read(qmp, process, ref known));
        Assert.Same(found, known);

        // If two blocks have swapped places, or one was found elsewhere, nothing of the old result is used.
        foreach (
            var wrong in (List<RamBlockLine>[])
                [
                    [found[0] with { HostAddress = found[1].HostAddress }, .. found.Skip(1)],
                    [found[0] with { FoundAt = found[1].FoundAt }, .. found.Skip(1)],
                    [.. found.Skip(1)],
                ]
        )
        {
            known = wrong;
            Assert.Equal(first, RamBlockTable.Read(qmp, process, ref known));
            Assert.Equal(found, known);
        }
    }
}
