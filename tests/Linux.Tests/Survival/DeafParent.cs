using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>Runs a capture whose standard output is a full pipe that nobody reads.</summary>
internal sealed class DeafParent : IAsyncDisposable
{
    private readonly GuardedProcess _process;
    private readonly FileStream[] _pipes;

    private DeafParent(GuardedProcess process, FileStream[] pipes, string output) => (_process, _pipes, Output) = (process, pipes, output);

    public string Output { get; }

    /// <param name="patient">The machine to capture.</param>
    /// <param name="options">Options of the capture.</param>
    /// <param name="worker">True: the capturing process itself; false: the command that runs it.</param>
    public static async Task<DeafParent> StartAsync(Patient patient, string[] options, bool worker = true)
    {
        var (words, ears) = (Path.Combine(patient.Machine.Folder, "words"), Path.Combine(patient.Machine.Folder, "ears"));
        await Tool.RunAsync("mkfifo", words, ears);
        // Open for reading and writing, so that opening does not block and neither end is ever closed.
        FileStream[] pipes =
        [
            new(words, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, 0),
            new(ears, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, 0),
        ];
        // A pipe holds 64 KiB: one page stays free for the first lines.
        await pipes[0].WriteAsync(new byte[60 * 1024]);
        var output = Path.Combine(patient.Machine.Folder, "deaf");
        string[] command =
        [
            "sh",
            "-c",
            "words=$1 ears=$2; shift 2; exec \"$@\" <\"$ears\" >\"$words\"",
            "sh",
            words,
            ears,
            TestFiles.Agent,
            "capture",
            "--json",
            "--qmp",
            patient.Machine.QmpSocket,
            "--engine",
            "agent",
            "--output",
            output,
            .. options,
            .. worker ? ["--worker"] : Array.Empty<string>(),
        ];
        return new DeafParent(await GuardedProcess.StartAsync(command), pipes, output);
    }

    /// <summary>Waits until the snapshot is complete.</summary>
    public async Task CompletedAsync(TimeSpan timeout)
    {
        var began = Stopwatch.GetTimestamp();
        while (!File.Exists(Path.Combine(Output, "snapshot.json")))
        {
            Assert.False(_process.HasEnded, $"The capture ended: {_process.StandardError}");
            Assert.True(Stopwatch.GetElapsedTime(began) < timeout, "The capture waits for somebody who reads.");
            await Task.Delay(50);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync();
        foreach (var pipe in _pipes)
            await pipe.DisposeAsync();
    }
}
