using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// A program that cannot outlive the test run. A small shell starts it, prints its pid and kills it when the shell's own standard input
/// ends, which happens however the test run dies. (A parent-death signal would not do: the kernel sends it when the starting *thread*
/// ends.)
/// </summary>
public sealed class GuardedProcess : IAsyncDisposable
{
    // $pid may be unshare, whose child is the program and does not die with it. The program's process prints its own pid, so that no output
    // of the program comes before it.
    private const string Guard = """
        exec 3<&0
        sh -c 'echo "$$"; exec "$@"' sh "$@" 3<&- </dev/null &
        pid=$!
        (
            read -r _ <&3
            kill -9 $(cat "/proc/$pid/task/$pid/children") "$pid" 2>/dev/null
        ) >/dev/null 2>&1 &
        watcher=$!
        wait "$pid"
        code=$?
        kill "$watcher" 2>/dev/null
        exit "$code"
        """;

    private readonly Process _guard;
    private readonly StringBuilder _stdout = new();
    private readonly StringBuilder _stderr = new();
    private readonly Task _reading;
    private readonly CancellationTokenSource _ended = new();
    private volatile bool _hasEnded;

    private GuardedProcess(Process guard, int pid)
    {
        _guard = guard;
        Pid = pid;
        _reading = Task.WhenAll(CopyAsync(guard.StandardOutput, _stdout), CopyAsync(guard.StandardError, _stderr));
        Exit = WaitAsync();
    }

    /// <summary>The pid of the program, or of the unshare in front of it.</summary>
    public int Pid { get; }

    /// <summary>Its exit code (128 + n if signal n ended it), once all of its output has arrived.</summary>
    public Task<int> Exit { get; }

    public bool HasEnded => _hasEnded;

    /// <summary>Cancelled when the program has ended.</summary>
    public CancellationToken Ended => _ended.Token;

    public string StandardOutput
    {
        get
        {
            lock (_stdout)
                return _stdout.ToString();
        }
    }

    public string StandardError
    {
        get
        {
            lock (_stderr)
                return _stderr.ToString();
        }
    }

    public static async Task<GuardedProcess> StartAsync(
        IEnumerable<string> commandLine,
        IReadOnlyDictionary<string, string>? environment = null
    )
    {
        var start = new ProcessStartInfo("/bin/sh")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var word in (IEnumerable<string>)["-c", Guard, "guard", .. commandLine])
            start.ArgumentList.Add(word);
        foreach (var (key, value) in environment ?? new Dictionary<string, string>())
            start.Environment[key] = value;

        var guard = Process.Start(start)!;
        var first = await guard.StandardOutput.ReadLineAsync().ConfigureAwait(false);
        if (int.TryParse(first, CultureInfo.InvariantCulture, out var pid))
            return new GuardedProcess(guard, pid);
        var message = await guard.StandardError.ReadToEndAsync().ConfigureAwait(false);
        guard.Dispose();
        throw new InvalidOperationException($"Not started: {string.Join(' ', commandLine)}: {first} {message}");
    }

    public void Signal(int signal)
    {
        if (!HasEnded)
            HarnessLibc.Kill(Pid, signal);
    }

    public async ValueTask DisposeAsync()
    {
        _guard.StandardInput.Close(); // the watcher kills the program, and its child
        await Exit.ConfigureAwait(false);
        _guard.Dispose();
        _ended.Dispose();
    }

    private static async Task CopyAsync(StreamReader from, StringBuilder to)
    {
        var buffer = new char[4096];
        while (await from.ReadAsync(buffer).ConfigureAwait(false) is var count and > 0)
        {
            lock (to)
                to.Append(buffer, 0, count);
        }
    }

    private async Task<int> WaitAsync()
    {
        await _guard.WaitForExitAsync().ConfigureAwait(false);
        await _reading.ConfigureAwait(false);
        var code = _guard.ExitCode;
        _hasEnded = true;
        await _ended.CancelAsync().ConfigureAwait(false);
        return code;
    }
}
