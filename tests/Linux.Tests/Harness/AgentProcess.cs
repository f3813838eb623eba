using System.Diagnostics;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The result of a run of the agent.</summary>
public sealed record AgentResult(int ExitCode, string StandardOutput, string StandardError, TimeSpan Took)
{
    public override string ToString() =>
        $"exit code {ExitCode} after {Took.TotalSeconds:0.00} s\n--- stdout\n{StandardOutput}\n--- stderr\n{StandardError}";
}

/// <summary>The agent under test, as a process of its own: out/bgsnap-agent.</summary>
public sealed class AgentProcess : IAsyncDisposable
{
    private readonly GuardedProcess _process;
    private readonly long _began = Stopwatch.GetTimestamp();

    private AgentProcess(GuardedProcess process) => _process = process;

    public int Pid => _process.Pid;

    public bool HasEnded => _process.HasEnded;

    public string StandardOutput => _process.StandardOutput;

    public string StandardError => _process.StandardError;

    /// <summary>Runs the agent until it exits. After the timeout the harness kills it, and the test fails with its output.</summary>
    public static async Task<AgentResult> RunAsync(TimeSpan timeout, params IEnumerable<string> arguments)
    {
        await using var agent = await StartAsync(arguments).ConfigureAwait(false);
        return await agent.WaitAsync(timeout).ConfigureAwait(false);
    }

    public static Task<AgentProcess> StartAsync(params IEnumerable<string> arguments) => StartAsync(null, arguments);

    /// <param name="environment">Additional environment variables, such as BGSNAP_TEST_HOOK; null: none.</param>
    /// <param name="arguments">Its command line.</param>
    public static async Task<AgentProcess> StartAsync(
        IReadOnlyDictionary<string, string>? environment,
        params IEnumerable<string> arguments
    ) => await StartByAsync([], environment, arguments).ConfigureAwait(false);

    /// <param name="starter">The program that executes the agent, such as setpriv, with its arguments.</param>
    /// <param name="environment">Additional environment variables; null: none.</param>
    /// <param name="arguments">The agent's command line.</param>
    public static async Task<AgentProcess> StartByAsync(
        IEnumerable<string> starter,
        IReadOnlyDictionary<string, string>? environment,
        params IEnumerable<string> arguments
    )
    {
        if (!File.Exists(TestFiles.Agent))
            throw new FileNotFoundException($"{TestFiles.Agent} is missing: run make build", TestFiles.Agent);
        return new AgentProcess(
            await GuardedProcess.StartAsync([.. starter, TestFiles.Agent, .. arguments], environment).ConfigureAwait(false)
        );
    }

    /// <summary>Waits until the agent exits by itself.</summary>
    public async Task<AgentResult> WaitAsync(TimeSpan timeout)
    {
        try
        {
            var code = await _process.Exit.WaitAsync(timeout).ConfigureAwait(false);
            return new AgentResult(code, StandardOutput, StandardError, Stopwatch.GetElapsedTime(_began));
        }
        catch (TimeoutException)
        {
            throw new TimeoutException(
                $"The agent did not end within {timeout.TotalSeconds} s.\n--- stdout\n{StandardOutput}\n--- stderr\n{StandardError}"
            );
        }
    }

    /// <summary>Waits until the agent's output (either stream) contains the text.</summary>
    public async Task WaitForOutputAsync(string text, TimeSpan timeout)
    {
        var began = Stopwatch.GetTimestamp();
        while (!StandardOutput.Contains(text, StringComparison.Ordinal) && !StandardError.Contains(text, StringComparison.Ordinal))
        {
            if (HasEnded || Stopwatch.GetElapsedTime(began) > timeout)
            {
                throw new TimeoutException(
                    $"The agent {(HasEnded ? "ended" : "went on")} and never printed '{text}'.\n--- stdout\n{StandardOutput}\n--- "
                        + $"stderr\n{StandardError}"
                );
            }

            await Task.Delay(5).ConfigureAwait(false);
        }
    }

    /// <summary>Sends SIGKILL and waits until the process is gone.</summary>
    public async Task KillAsync()
    {
        _process.Signal(HarnessLibc.SigKill);
        await _process.Exit.ConfigureAwait(false);
    }

    public void Stop() => _process.Signal(HarnessLibc.SigStop);

    public void Continue() => _process.Signal(HarnessLibc.SigCont);

    public void Terminate() => _process.Signal(HarnessLibc.SigTerm);

    public ValueTask DisposeAsync() => _process.DisposeAsync();
}
