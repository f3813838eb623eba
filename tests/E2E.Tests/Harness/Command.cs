using System.Diagnostics;
using System.Text;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>The result of a program: its exit code and output.</summary>
public sealed record CommandResult(string Line, int ExitCode, string Output, string Error)
{
    /// <summary>Returns the output; fails the test if the program failed.</summary>
    public string Ok() => ExitCode == 0 ? Output : throw new InvalidOperationException(ToString());

    public override string ToString() => $"{Line}: exit code {ExitCode}\n{Output}\n{Error}";
}

/// <summary>Runs programs with a time limit, and never leaves one behind.</summary>
public static class Command
{
    public static async Task<CommandResult> RunAsync(
        string program,
        IEnumerable<string> arguments,
        string? input = null,
        TimeSpan? limit = null,
        params (string Name, string Value)[] environment
    )
    {
        ProcessStartInfo start = new(program)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Repository.Root,
        };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        var line = $"{Path.GetFileName(program)} {string.Join(' ', start.ArgumentList)}";
        using var process = Process.Start(start)!;
        var output = new StringBuilder();
        var error = new StringBuilder();
        process.OutputDataReceived += (_, e) => Append(output, e.Data);
        process.ErrorDataReceived += (_, e) => Append(error, e.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        await process.StandardInput.WriteAsync(input ?? "");
        process.StandardInput.Close();
        using var timeout = new CancellationTokenSource(limit ?? TimeSpan.FromMinutes(1));
        try
        {
            await process.WaitForExitAsync(timeout.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{line} did not end in time\n{output}\n{error}");
        }
        return new CommandResult(line, process.ExitCode, output.ToString(), error.ToString());
    }

    private static void Append(StringBuilder text, string? line)
    {
        if (line is null)
            return;
        lock (text)
            text.AppendLine(line);
    }
}

/// <summary>Paths in the repository.</summary>
public static class Repository
{
    public static string Root { get; } = Find();

    public static string Agent => Path.Join(Root, "out", "bgsnap-agent");

    private static string Find()
    {
        for (var directory = AppContext.BaseDirectory; directory is not null; directory = Path.GetDirectoryName(directory))
        {
            if (File.Exists(Path.Join(directory, "bgsnap.slnx")))
                return directory;
        }
        throw new InvalidOperationException("bgsnap.slnx was not found above the test");
    }
}
