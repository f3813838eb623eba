using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>A capture that holds its guest stopped until the storage has cut the disks, and the channel to tell it so.</summary>
internal sealed class HeldCapture : IAsyncDisposable
{
    private readonly GuardedProcess _process;
    private readonly FileStream _words;

    private HeldCapture(GuardedProcess process, FileStream words) => (_process, _words) = (process, words);

    public int Pid => _process.Pid;

    public string Output => _process.StandardOutput;

    /// <summary>Starts the capture.</summary>
    public static async Task<HeldCapture> StartAsync(VirtualMachine vm, string name, params IEnumerable<string> options)
    {
        var fifo = Path.Combine(vm.Folder, name + ".words");
        await Tool.RunAsync("mkfifo", fifo);
        var process = await GuardedProcess.StartAsync([
            "/bin/sh",
            "-c",
            "exec \"$@\" <\"$0\"",
            fifo,
            TestFiles.Agent,
            "capture",
            "--json",
            "--qmp",
            vm.QmpSocket,
            "--output",
            Path.Combine(vm.Folder, name),
            "--disks=all",
            "--disk-method=volume-snapshot",
            .. options,
        ]);
        // Opening one end of a FIFO blocks until the other end is open.
        return new HeldCapture(process, new FileStream(fifo, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0));
    }

    /// <summary>Waits until the guest is held, and returns the line that reports it.</summary>
    public async Task<string> HeldAsync()
    {
        for (var i = 0; i < 3000; i++)
        {
            if (Output.Split('\n').FirstOrDefault(l => l.Contains("\"Holding\"", StringComparison.Ordinal)) is { } line)
                return line;
            if (_process.HasEnded)
                break;
            await Task.Delay(10);
        }

        throw new TimeoutException($"The guest was not held.\n{Output}\n{_process.StandardError}");
    }

    /// <summary>Writes a line to its standard input.</summary>
    public async Task SayAsync(string line)
    {
        await _words.WriteAsync(System.Text.Encoding.UTF8.GetBytes(line + "\n"));
        await _words.FlushAsync();
    }

    /// <summary>Closes its standard input, as happens when its parent dies.</summary>
    public void Hush() => _words.Dispose();

    public void Signal(int signal) => _process.Signal(signal);

    /// <summary>Waits until it exits.</summary>
    public async Task<(int Code, string Last)> EndAsync()
    {
        var code = await _process.Exit.WaitAsync(TimeSpan.FromSeconds(60));
        return (code, Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).LastOrDefault() ?? "");
    }

    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync();
        await _words.DisposeAsync();
    }
}
