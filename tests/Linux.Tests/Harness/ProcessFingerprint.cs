using System.Globalization;
using System.Text.Json;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// What is visible of a QEMU from outside and through QMP, at one moment. Taken before and after, it shows whether anything is left behind:
/// a descriptor, a registered userfaultfd, a thread, an fdset, a job, an export, a tracer.
/// </summary>
public sealed record ProcessFingerprint(string RunState, int TracerPid, int UserfaultVmas, IReadOnlyList<string> Items)
{
    public static async Task<ProcessFingerprint> TakeAsync(VirtualMachine machine)
    {
        ArgumentNullException.ThrowIfNull(machine);
        var items = new List<string>();
        items.AddRange(Descriptors(machine.Pid).Select(link => $"descriptor {link}"));
        items.AddRange(Threads(machine.Pid).Select(name => $"thread {name}"));
        items.AddRange(await AskAsync(machine.Qmp, "query-fdsets", "fdset", e => e.GetRawText()).ConfigureAwait(false));
        items.AddRange(await AskAsync(machine.Qmp, "query-jobs", "job", e => e.GetProperty("id").GetString()!).ConfigureAwait(false));
        items.AddRange(
            await AskAsync(machine.Qmp, "query-block-exports", "export", e => e.GetProperty("id").GetString()!).ConfigureAwait(false)
        );
        items.AddRange(
            await AskAsync(machine.Qmp, "query-named-block-nodes", "block node", e => e.GetProperty("node-name").GetString()!)
                .ConfigureAwait(false)
        );
        items.AddRange(
            (await machine.Qmp.ExecuteAsync("query-migrate-capabilities").ConfigureAwait(false))
                .EnumerateArray()
                .Where(e => e.GetProperty("state").GetBoolean())
                .Select(e => $"migration capability {e.GetProperty("capability").GetString()}")
        );
        items.Sort(StringComparer.Ordinal);
        return new ProcessFingerprint(
            await machine.Qmp.RunStateAsync().ConfigureAwait(false),
            TracerOf(machine.Pid),
            UserfaultVmasOf(machine.Pid),
            items
        );
    }

    /// <summary>The differences from an earlier fingerprint, one line each; empty if nothing is left behind.</summary>
    public IReadOnlyList<string> DifferencesFrom(ProcessFingerprint before)
    {
        ArgumentNullException.ThrowIfNull(before);
        var differences = new List<string>();
        if (RunState != before.RunState)
            differences.Add($"run state {before.RunState} became {RunState}");
        if (TracerPid != before.TracerPid)
            differences.Add($"tracer {before.TracerPid} became {TracerPid}");
        if (UserfaultVmas != before.UserfaultVmas)
            differences.Add($"{before.UserfaultVmas} mappings under userfaultfd became {UserfaultVmas}");
        differences.AddRange(Without(Items, before.Items).Select(item => $"new: {item}"));
        differences.AddRange(Without(before.Items, Items).Select(item => $"gone: {item}"));
        return differences;
    }

    /// <summary>The differences that last: QEMU takes a moment to clean up after a closed connection.</summary>
    public async Task<IReadOnlyList<string>> DifferencesAfterwardsAsync(VirtualMachine machine, TimeSpan? patience = null)
    {
        var began = System.Diagnostics.Stopwatch.GetTimestamp();
        while (true)
        {
            var differences = (await TakeAsync(machine).ConfigureAwait(false)).DifferencesFrom(this);
            if (differences.Count == 0 || System.Diagnostics.Stopwatch.GetElapsedTime(began) > (patience ?? TimeSpan.FromSeconds(20)))
            {
                return differences;
            }

            await Task.Delay(50).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// The number of a process's mappings on which a userfaultfd is registered, for missing pages or for write protection.
    /// </summary>
    public static int UserfaultVmasOf(int pid) =>
        File.ReadLines($"/proc/{pid}/smaps")
            .Count(line =>
                line.StartsWith("VmFlags:", StringComparison.Ordinal)
                && line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Any(flag => flag is "um" or "uw" or "ui")
            );

    public static int TracerOf(int pid) =>
        int.Parse(
            File.ReadLines($"/proc/{pid}/status").First(line => line.StartsWith("TracerPid:", StringComparison.Ordinal))[10..],
            CultureInfo.InvariantCulture
        );

    /// <summary>The targets of the descriptors; their numbers do not matter.</summary>
    public static IReadOnlyList<string> Descriptors(int pid)
    {
        var links = new List<string>();
        foreach (var entry in Directory.EnumerateFiles($"/proc/{pid}/fd"))
        {
            if (new FileInfo(entry).LinkTarget is { } link) // null: closed meanwhile
                links.Add(link);
        }

        return links;
    }

    /// <summary>Names of threads, without those of QEMU's pool, which come and go by themselves.</summary>
    public static IReadOnlyList<string> Threads(int pid) =>
        [
            .. Directory
                .EnumerateDirectories($"/proc/{pid}/task")
                .Select(NameOf)
                .Where(name => name is not ("" or "worker" or "pool-spawner")),
        ];

    private static string NameOf(string task)
    {
        try
        {
            return File.ReadAllText(Path.Combine(task, "comm")).Trim();
        }
        catch (IOException)
        {
            return ""; // ended meanwhile
        }
    }

    private static async Task<IEnumerable<string>> AskAsync(HarnessQmp qmp, string command, string kind, Func<JsonElement, string> name) =>
        (await qmp.ExecuteAsync(command).ConfigureAwait(false)).EnumerateArray().Select(element => $"{kind} {name(element)}").ToList();

    private static List<string> Without(IEnumerable<string> all, IEnumerable<string> some)
    {
        var rest = all.ToList();
        foreach (var item in some)
            rest.Remove(item);
        return rest;
    }
}
