using System.Text.Json;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>The result of <c>restore --json</c>.</summary>
internal sealed record RestoreOutcome(AgentResult Process, JsonElement Last, IReadOnlyList<JsonElement> Progress)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    public string Type => Last.GetProperty("type").GetString()!;

    public string Reason => Last.GetProperty("reason").GetString()!;

    public string Message => Last.GetProperty("message").GetString()!;

    /// <summary>Restores a snapshot; unless the options name a mode, QEMU itself loads it.</summary>
    public static async Task<RestoreOutcome> OfAsync(string snapshot, VirtualMachine target, params IEnumerable<string> options)
    {
        List<string> arguments = ["restore", snapshot, "--qmp", target.QmpSocket, "--json", .. options];
        if (!arguments.Exists(a => a.StartsWith("--mode", StringComparison.Ordinal)))
            arguments.Add("--mode=stream");
        await using var agent = await AgentProcess.StartAsync(arguments);
        return Parse(await agent.WaitAsync(Patience));
    }

    public static RestoreOutcome Parse(AgentResult result)
    {
        var lines = result
            .StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => JsonSerializer.Deserialize<JsonElement>(l))
            .ToList();
        Assert.True(lines.Count > 0, result.ToString());
        return new RestoreOutcome(result, lines[^1], [.. lines.Where(l => l.GetProperty("type").GetString() == "progress")]);
    }

    public override string ToString() => Process.ToString();
}
