using System.Text.Json;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>The numbers of a capture that tests check, read from the documented output instead of the agent's own types.</summary>
public sealed record CaptureNumbers(
    string Output,
    DateTimeOffset PointInTime,
    string Engine,
    string EngineReason,
    long DowntimeMicroseconds,
    long ProtectionWindowMicroseconds,
    long Faults,
    IReadOnlyDictionary<string, long>? StopWindow = null,
    bool Paused = false
);

/// <summary>Why there is no snapshot.</summary>
public sealed record CaptureError(string Reason, string Message, int ExitCode);

/// <summary>The result of a run of <c>bgsnap-agent capture --json</c>: numbers or an error, from its last line.</summary>
public sealed record CaptureOutcome(AgentResult Process, CaptureNumbers? Summary, CaptureError? Error);

/// <summary>The agent's commands, as tests use them.</summary>
public static class Agent
{
    /// <summary>Slow enough that a guest that writes at full speed overtakes the sweep.</summary>
    public const string Slowly = "--bandwidth-limit=100Mi";

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    /// <summary>Captures into the machine's folder. It must succeed.</summary>
    public static Task<CaptureNumbers> CaptureAsync(VirtualMachine vm, string name, params IEnumerable<string> options) =>
        CaptureAsync(vm, name, null, options);

    public static async Task<CaptureNumbers> CaptureAsync(
        VirtualMachine vm,
        string name,
        IReadOnlyDictionary<string, string>? environment,
        params IEnumerable<string> options
    )
    {
        var outcome = await TryCaptureAsync(vm, name, environment, options).ConfigureAwait(false);
        Assert.True(outcome.Process.ExitCode == 0 && outcome.Summary is not null, outcome.Process.ToString());
        return outcome.Summary;
    }

    public static async Task<CaptureOutcome> TryCaptureAsync(
        VirtualMachine vm,
        string name,
        IReadOnlyDictionary<string, string>? environment,
        params IEnumerable<string> options
    )
    {
        await using var agent = await AgentProcess
            .StartAsync(environment, ["capture", "--qmp", vm.QmpSocket, "--output", Path.Combine(vm.Folder, name), "--json", .. options])
            .ConfigureAwait(false);
        var result = await agent.WaitAsync(Patience).ConfigureAwait(false);
        var last = result.StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries).LastOrDefault();
        Assert.True(last is not null, result.ToString());
        var line = JsonSerializer.Deserialize<JsonElement>(last);
        return line.GetProperty("type").GetString() switch
        {
            "summary" => new(result, line.GetProperty("summary").Deserialize<CaptureNumbers>(JsonSerializerOptions.Web), null),
            "error" => new(result, null, line.Deserialize<CaptureError>(JsonSerializerOptions.Web)),
            _ => throw new InvalidOperationException($"The last line is neither summary nor error: {result}"),
        };
    }

    /// <summary>Exports a snapshot to a file that a stock QEMU can load.</summary>
    public static async Task<string> ExportAsync(string snapshot)
    {
        var file = snapshot + ".stream";
        var result = await AgentProcess.RunAsync(Patience, "export", snapshot, "--output", file).ConfigureAwait(false);
        Assert.True(result.ExitCode == 0, result.ToString());
        return file;
    }

    /// <summary>Restores a snapshot into a machine that was started with <c>-incoming defer</c>.</summary>
    public static async Task RestoreAsync(string snapshot, VirtualMachine vm)
    {
        var result = await AgentProcess
            .RunAsync(Patience, "restore", snapshot, "--qmp", vm.QmpSocket, "--mode=stream")
            .ConfigureAwait(false);
        Assert.True(result.ExitCode == 0, $"{result}\n{vm.Describe()}");
    }

    /// <summary>The environment that arms a hook of the agent.</summary>
    public static IReadOnlyDictionary<string, string> Hook(string hook) => new Dictionary<string, string> { ["BGSNAP_TEST_HOOK"] = hook };

    /// <summary>The environment that makes the agent dump RAM in the stop window.</summary>
    public static IReadOnlyDictionary<string, string> DumpTo(string folder) =>
        new Dictionary<string, string> { ["BGSNAP_TEST_DUMP"] = Directory.CreateDirectory(folder).FullName };
}
