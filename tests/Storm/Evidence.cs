using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>The evidence of a round in which a promise was broken: the output, and the snapshots.</summary>
internal sealed class Evidence(string folder)
{
    /// <summary>The prefix of the names of finished snapshots in a machine's folder.</summary>
    public const string ReadyPrefix = "ready";

    private const int MostLines = 400;

    private static readonly string[] Questions =
    [
        "query-status",
        "query-block",
        "query-named-block-nodes",
        "query-fdsets",
        "query-jobs",
        "query-block-exports",
    ];

    private readonly Lock _gate = new();
    private readonly List<string> _log = [];

    public string Folder => folder;

    /// <summary>Records a line of a round's output, in case it is needed.</summary>
    public void Note(string line)
    {
        lock (_gate)
            _log.Add(Invariant($"{DateTime.UtcNow:HH:mm:ss.fff} {line}"));
    }

    /// <summary>Writes only the log, without progress lines, for a round without violations.</summary>
    public void WriteLog(RoundPlan plan)
    {
        var logs = Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(folder)!, "logs")).FullName;
        lock (_gate)
        {
            File.WriteAllLines(
                Path.Combine(logs, Path.GetFileName(folder) + ".txt"),
                [plan.ToString(), .. _log.SelectMany(l => l.Split('\n')).Where(l => !IsProgress(l))]
            );
        }
    }

    /// <summary>Writes all evidence while the machine still exists.</summary>
    public async Task KeepAsync(RoundPlan plan, Exception why, VirtualMachine? machine)
    {
        Directory.CreateDirectory(folder);
        await File.WriteAllTextAsync(Path.Combine(folder, "round.txt"), $"{plan}\n\n{why}\n");
        lock (_gate)
            File.WriteAllLines(Path.Combine(folder, "log.txt"), _log);
        if (machine is null)
            return;
        var commandLine = string.Join(' ', QemuCommandLine.Build(machine.Options, machine.Folder));
        await File.WriteAllTextAsync(Path.Combine(folder, "machine.txt"), $"{machine.Describe()}\n{commandLine}\n");
        await File.WriteAllLinesAsync(Path.Combine(folder, "serial.txt"), machine.Serial.Lines.TakeLast(MostLines));
        await AskAsync(machine);
        foreach (var pattern in (string[])[ReadyPrefix + "*", "dump*"])
        {
            foreach (var directory in Directory.EnumerateDirectories(machine.Folder, pattern))
                await Tool.TryAsync("mv", directory, folder);
        }
    }

    private static bool IsProgress(string line) => line.Contains("\"type\":\"progress\"", StringComparison.Ordinal);

    /// <summary>Records what QEMU and the kernel report of the machine now.</summary>
    private async Task AskAsync(VirtualMachine machine)
    {
        try
        {
            var events = machine.Qmp.Events.TakeLast(MostLines).Select(e => $"{e.At} {e.Name} {e.Data}");
            await File.WriteAllLinesAsync(Path.Combine(folder, "events.txt"), events);
            if (machine.HasExited)
                return;
            var threads = Directory.EnumerateDirectories($"/proc/{machine.Pid}/task").Select(Thread);
            await File.WriteAllLinesAsync(Path.Combine(folder, "threads.txt"), threads);
            List<string> said = [];
            foreach (var question in Questions)
                said.Add($"{question}: {(await machine.Qmp.ExecuteAsync(question).WaitAsync(TimeSpan.FromSeconds(3))).GetRawText()}");
            await File.WriteAllLinesAsync(Path.Combine(folder, "qmp.txt"), said);
        }
        catch (Exception e) when (e is IOException or TimeoutException or UnauthorizedAccessException or QmpErrorException)
        {
            await File.AppendAllTextAsync(Path.Combine(folder, "round.txt"), $"\nQEMU could not be asked: {e.Message}\n");
        }
    }

    /// <summary>A thread's name, what it waits for, and its state.</summary>
    private static string Thread(string task)
    {
        var state = File.ReadLines(task + "/status").First(l => l.StartsWith("State:", StringComparison.Ordinal));
        return $"{File.ReadAllText(task + "/comm").Trim()}: {File.ReadAllText(task + "/wchan")} {state}";
    }
}
