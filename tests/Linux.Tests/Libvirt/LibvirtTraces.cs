using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>What a capture must leave as it was: the domain's XML, QEMU's descriptors, sets, jobs, exports and nodes, and the folders of host and container.</summary>
internal sealed record LibvirtTraces(string Xml, string Blocks, IReadOnlyList<string> Descriptors, int UserfaultVmas)
{
    private static readonly string[] Questions = ["query-fdsets", "query-jobs", "query-block-jobs", "query-block-exports", "query-block", "query-named-block-nodes"];

    /// <summary>What changes because the guest writes.</summary>
    private static readonly HashSet<string> Passing = ["actual-size", "dirty-flag", "io-status"];

    public static async Task<LibvirtTraces> TakeAsync(LibvirtMachine machine)
    {
        JsonObject blocks = [];
        foreach (var question in Questions)
            blocks[question] = Settle(JsonNode.Parse((await machine.AskAsync(question)).GetRawText()));
        // A libvirtd that was started anew has another connection, by another number.
        var descriptors = ProcessFingerprint.Descriptors(machine.Pid).Select(d => d.StartsWith("socket:", StringComparison.Ordinal) ? "socket" : d).Order(StringComparer.Ordinal);
        return new LibvirtTraces(await machine.Daemon.VirshAsync("dumpxml", LibvirtMachine.Name), blocks.ToJsonString(), [.. descriptors], ProcessFingerprint.UserfaultVmasOf(machine.Pid));
    }

    /// <summary>It is as it was, soon: what a closing connection leaves takes QEMU a moment to clear away.</summary>
    public async Task AssertAsBeforeAsync(LibvirtMachine machine, string after)
    {
        LibvirtTraces now;
        for (var i = 0; ; i++, await Task.Delay(50))
        {
            now = await TakeAsync(machine);
            if (i == 60 || (now.Descriptors.SequenceEqual(Descriptors) && now.Blocks == Blocks && now.Xml == Xml))
                break;
        }

        Assert.True(now.Descriptors.SequenceEqual(Descriptors), $"{after}: new {string.Join(", ", now.Descriptors.Except(Descriptors))}; {Descriptors.Count} descriptors became {now.Descriptors.Count}");
        Assert.Equal(Blocks, now.Blocks);
        Assert.Equal(Xml, now.Xml);
        Assert.Equal(UserfaultVmas, now.UserfaultVmas);
        Assert.Empty(Directory.EnumerateFileSystemEntries(machine.Outputs).Select(Path.GetFileName));
    }

    private static JsonNode? Settle(JsonNode? node)
    {
        if (node is JsonObject o)
        {
            foreach (var name in o.Select(p => p.Key).ToList())
            {
                if (Passing.Contains(name))
                    o.Remove(name);
                else
                    Settle(o[name]);
            }
        }
        else if (node is JsonArray a)
        {
            foreach (var element in a)
                Settle(element);
        }

        return node;
    }
}
