using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>
/// What a capture must leave unchanged: the domain's XML, QEMU's descriptors, fdsets, jobs, exports and nodes, and the folders of host and
/// container.
/// </summary>
internal sealed record LibvirtTraces(string Xml, string Blocks, IReadOnlyList<string> Descriptors, int UserfaultVmas)
{
    public static async Task<LibvirtTraces> TakeAsync(LibvirtMachine machine)
    {
        // A restarted libvirtd has another connection, with another number.
        var descriptors = ProcessFingerprint
            .Descriptors(machine.Pid)
            .Select(d => d.StartsWith("socket:", StringComparison.Ordinal) ? "socket" : d)
            .Order(StringComparer.Ordinal);
        return new LibvirtTraces(
            await machine.Daemon.VirshAsync("dumpxml", LibvirtMachine.Name),
            await BlockGraph.BlocksAsync(question => machine.AskAsync(question)),
            [.. descriptors],
            ProcessFingerprint.UserfaultVmasOf(machine.Pid)
        );
    }

    /// <summary>Asserts that everything is soon as before: QEMU takes a moment to clean up after a closed connection.</summary>
    public async Task AssertAsBeforeAsync(LibvirtMachine machine, string after)
    {
        LibvirtTraces now;
        for (var i = 0; ; i++, await Task.Delay(50))
        {
            now = await TakeAsync(machine);
            if (i == 600 || (now.Descriptors.SequenceEqual(Descriptors) && now.Blocks == Blocks && now.Xml == Xml))
                break;
        }

        Assert.True(
            now.Descriptors.SequenceEqual(Descriptors),
            $"{after}: new {string.Join(", ", now.Descriptors.Except(Descriptors))}; {Descriptors.Count} descriptors became "
                + $"{now.Descriptors.Count}"
        );
        Assert.Equal(Blocks, now.Blocks);
        Assert.Equal(Xml, now.Xml);
        Assert.Equal(UserfaultVmas, now.UserfaultVmas);
        Assert.Empty(Directory.EnumerateFileSystemEntries(machine.Outputs).Select(Path.GetFileName));
    }
}
