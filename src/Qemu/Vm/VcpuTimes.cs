using System.Globalization;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.Vm;

/// <summary>
/// The processor time of a guest's vCPUs. It stands still while the guest does, whatever QEMU's other threads do: so two readings tell
/// whether the guest has run in between, which QEMU itself does not say.
/// </summary>
internal static class VcpuTimes
{
    /// <summary>How far a vCPU's time may go on while the guest stands still, in clock ticks: QEMU's own work in that thread.</summary>
    private const long Still = 5;

    // Fields of /proc/PID/task/TID/stat after the name, which may hold anything.
    private const int UserTime = 11,
        SystemTime = 12;

    /// <summary>Reads the times.</summary>
    /// <returns>Clock ticks of 10 ms for each vCPU, in QEMU's order; null if they cannot be read.</returns>
    /// <exception cref="QmpException">QEMU does not answer.</exception>
    internal static long[]? Read(IQmpMonitor qmp)
    {
        using CheckedProcess? process = CheckedProcess.TryOpen(qmp.PeerPid);
        if (process is null)
            return null;
        using QmpAnswer answer = qmp.Execute("query-cpus-fast");
        long[] threads = [.. answer.Return.EnumerateArray().Select(c => c.GetProperty("thread-id").GetInt64())];
        try
        {
            Dictionary<long, long> times = TimesByThread(process);
            return threads.All(times.ContainsKey) ? [.. threads.Select(t => times[t])] : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return null; // QEMU has ended, or a thread of it has
        }
    }

    /// <summary>Whether a guest has run between two readings. If that cannot be told, the answer is no.</summary>
    internal static bool HasRun(long[] before, long[]? after) =>
        after is not null && after.Length == before.Length && before.Zip(after).Any(t => t.Second - t.First > Still);

    /// <summary>The times as text, for a note.</summary>
    internal static string Text(long[] times) => string.Join(' ', times);

    /// <summary>Reads the text; null: it is not a list of times.</summary>
    internal static long[]? Parse(string text)
    {
        string[] words = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        long[] times = new long[words.Length];
        for (int i = 0; i < words.Length; i++)
        {
            if (!long.TryParse(words[i], NumberStyles.None, CultureInfo.InvariantCulture, out times[i]))
                return null;
        }
        return times.Length > 0 ? times : null;
    }

    /// <summary>By the number that the thread has in QEMU's own pid namespace, which QEMU answers with.</summary>
    private static Dictionary<long, long> TimesByThread(CheckedProcess process)
    {
        Dictionary<long, long> times = [];
        foreach (string thread in Directory.EnumerateDirectories(process.At("task")))
        {
            string numbers = File.ReadLines(Path.Join(thread, "status")).First(l => l.StartsWith("NSpid:", StringComparison.Ordinal));
            string stat = File.ReadAllText(Path.Join(thread, "stat"));
            string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            long own = long.Parse(
                numbers.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[^1],
                CultureInfo.InvariantCulture
            );
            times[own] =
                long.Parse(fields[UserTime], CultureInfo.InvariantCulture) + long.Parse(fields[SystemTime], CultureInfo.InvariantCulture);
        }
        return times;
    }
}
