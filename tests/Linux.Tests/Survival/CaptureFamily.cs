using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>The error that a failed <c>--json</c> command printed last.</summary>
public sealed record AgentError(string Reason, string Message, int ExitCode);

/// <summary>A capture under way: the command and its capturing child, each with its pid.</summary>
internal sealed class CaptureFamily : IAsyncDisposable
{
    private readonly GuardedProcess _process;
    private readonly long _began = Stopwatch.GetTimestamp();

    private CaptureFamily(GuardedProcess process) => _process = process;

    public int Command => _process.Pid;

    /// <summary>The pid of the capturing child; 0 until the test has seen it.</summary>
    public int Worker { get; private set; }

    public bool HasEnded => _process.Exit.IsCompleted;

    /// <summary>The command's output so far.</summary>
    public string Output => _process.StandardOutput;

    public TimeSpan Elapsed => Stopwatch.GetElapsedTime(_began);

    /// <param name="hook">BGSNAP_TEST_HOOK, or null.</param>
    /// <param name="arguments">The arguments after "capture".</param>
    public static Task<CaptureFamily> StartAsync(string? hook, params IEnumerable<string> arguments) =>
        StartByAsync([], hook is null ? [] : new() { ["BGSNAP_TEST_HOOK"] = hook }, "capture", arguments);

    /// <param name="starter">The program that executes the agent, with its arguments.</param>
    /// <param name="environment">Additional environment variables.</param>
    /// <param name="command">capture or restore.</param>
    /// <param name="arguments">The arguments after that.</param>
    public static async Task<CaptureFamily> StartByAsync(
        IEnumerable<string> starter,
        Dictionary<string, string> environment,
        string command,
        params IEnumerable<string> arguments
    )
    {
        // The guarding shell makes its background programs ignore SIGINT; a terminal does not.
        string[] line = [.. starter, "env", "--default-signal=INT", TestFiles.Agent, command, "--json", .. arguments];
        return new CaptureFamily(await GuardedProcess.StartAsync(line, environment).ConfigureAwait(false));
    }

    /// <summary>Waits until the child has become the worker process.</summary>
    /// <returns>False if the command ended before the test saw a worker.</returns>
    public async Task<bool> FindWorkerAsync()
    {
        while (!HasEnded)
        {
            foreach (var pid in Children(Command))
            {
                if (CommandLine(pid).Contains("--worker"))
                {
                    Worker = pid;
                    return true;
                }
            }

            await Task.Delay(1).ConfigureAwait(false);
        }

        return false;
    }

    public void Signal(int signal) => _process.Signal(signal);

    public void SignalWorker(int signal)
    {
        if (Worker != 0 && CommandLine(Worker).Contains("--worker"))
            HarnessLibc.Kill(Worker, signal);
    }

    /// <summary>Waits until both have exited.</summary>
    public async Task<AgentResult> WaitAsync(TimeSpan timeout)
    {
        int code;
        try
        {
            code = await _process.Exit.WaitAsync(timeout).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new TimeoutException(
                $"The capture did not end within {timeout.TotalSeconds} s.\n{_process.StandardOutput}\n{_process.StandardError}"
            );
        }

        while (Worker != 0 && CommandLine(Worker).Contains("--worker"))
        {
            if (Elapsed > timeout + TimeSpan.FromSeconds(5))
                throw new TimeoutException($"The capturing process {Worker} outlived its parent.");
            await Task.Delay(5).ConfigureAwait(false);
        }

        return new AgentResult(code, _process.StandardOutput, _process.StandardError, Elapsed);
    }

    /// <summary>The error line of a failed command; null if it printed no error.</summary>
    public static AgentError? ErrorOf(AgentResult result)
    {
        var last = result
            .StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .LastOrDefault(line => line.Contains("\"type\":\"error\"", StringComparison.Ordinal));
        return last is null ? null : JsonSerializer.Deserialize<AgentError>(last, JsonSerializerOptions.Web);
    }

    public ValueTask DisposeAsync() => _process.DisposeAsync();

    private static string[] CommandLine(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/cmdline").Split('\0');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return []; // gone
        }
    }

    private static IEnumerable<int> Children(int pid)
    {
        try
        {
            return
            [
                .. Directory
                    .EnumerateDirectories($"/proc/{pid}/task")
                    .SelectMany(task => File.ReadAllText(Path.Combine(task, "children")).Split(' ', StringSplitOptions.RemoveEmptyEntries))
                    .Select(text => int.Parse(text, CultureInfo.InvariantCulture)),
            ];
        }
        catch (IOException)
        {
            return [];
        }
    }
}
