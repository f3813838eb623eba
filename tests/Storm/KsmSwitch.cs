namespace Bgsnap.Storm;

/// <summary>
/// Turns the kernel's samepage merging on for all lanes that want it; the last one restores the former settings. A file records them, so
/// that the guard can restore them if the storm is killed.
/// </summary>
internal sealed class KsmSwitch : IDisposable
{
    private const string Knobs = "/sys/kernel/mm/ksm";
    private const string Eager = "20000";
    private static readonly string[] Names = ["run", "pages_to_scan", "sleep_millisecs"];
    private static readonly Lock Gate = new();
    private static int _users;

    private KsmSwitch() { }

    public static KsmSwitch? On()
    {
        if (!Directory.Exists(Knobs))
            return null;
        lock (Gate)
        {
            if (_users++ == 0)
            {
                File.WriteAllLines(
                    NoteOf(Environment.ProcessId),
                    Names.Select(n => $"{n} {File.ReadAllText(Path.Combine(Knobs, n)).Trim()}")
                );
                Set("pages_to_scan", Eager);
                Set("sleep_millisecs", "10");
                Set("run", "1");
            }
        }

        return new KsmSwitch();
    }

    public void Dispose()
    {
        lock (Gate)
        {
            if (--_users == 0)
                Restore(Environment.ProcessId);
        }
    }

    /// <summary>Restores the settings that the process found; does nothing if it had not changed them.</summary>
    public static void Restore(int pid)
    {
        if (!File.Exists(NoteOf(pid)))
            return;
        foreach (var line in File.ReadAllLines(NoteOf(pid)).Select(l => l.Split(' ')).Reverse())
            Set(line[0], line[1]);
        File.Delete(NoteOf(pid));
    }

    private static string NoteOf(int pid) => Path.Combine(Path.GetTempPath(), Invariant($"bgsnap-storm-ksm-{pid}"));

    private static void Set(string knob, string value) => File.WriteAllText(Path.Combine(Knobs, knob), value);
}
