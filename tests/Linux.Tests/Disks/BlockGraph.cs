using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>
/// All that QEMU reports of its block layer, and what <see cref="ProcessFingerprint"/> sees: descriptors, threads, fdsets, jobs, exports.
/// However a capture ends, it must leave exactly this.
/// </summary>
internal sealed record BlockGraph(ProcessFingerprint Process, string Blocks)
{
    private static readonly string[] Questions =
    [
        "query-named-block-nodes",
        "query-block",
        "query-block-jobs",
        "query-block-exports",
        "query-fdsets",
        "query-jobs",
    ];

    /// <summary>Fields that change because the guest writes.</summary>
    private static readonly HashSet<string> Passing = ["actual-size", "dirty-flag", "io-status"];

    public static async Task<BlockGraph> TakeAsync(VirtualMachine vm)
    {
        var blocks = await BlocksAsync(question => vm.Qmp.ExecuteAsync(question));
        return new BlockGraph(await ProcessFingerprint.TakeAsync(vm), blocks);
    }

    /// <summary>QEMU's report of its block layer, jobs and descriptor sets, through any kind of monitor.</summary>
    /// <param name="ask">Runs a command without arguments.</param>
    public static async Task<string> BlocksAsync(Func<string, Task<JsonElement>> ask)
    {
        JsonObject all = [];
        foreach (var question in Questions)
            all[question] = Settle(JsonNode.Parse((await ask(question)).GetRawText()));
        return all.ToJsonString();
    }

    /// <summary>Waits until the graph is as before, and fails after the timeout.</summary>
    /// <param name="vm">The machine.</param>
    /// <param name="after">What happened before, for messages.</param>
    /// <param name="patience">How long that may take.</param>
    /// <param name="byQemu">The capture was made by QEMU's own engine, which (since 8.0, util/userfaultfd.c) opens the device once and
    /// keeps it for good.</param>
    public async Task AssertIsBackAsync(VirtualMachine vm, string after, TimeSpan? patience = null, bool byQemu = false)
    {
        IReadOnlyList<string> differences = await Process.DifferencesAfterwardsAsync(vm, patience);
        if (byQemu)
            differences = [.. differences.Where(d => d != "new: descriptor /dev/userfaultfd")];
        Assert.True(differences.Count == 0, $"{after}: {string.Join("; ", differences)}");
        Assert.Equal(Blocks, (await TakeAsync(vm)).Blocks);
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
