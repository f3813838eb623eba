using System.Globalization;

namespace Bgsnap.Storm;

/// <summary>A control group with frozen processes, like those of a paused container (cgroup v2).</summary>
internal sealed class Freezer : IDisposable
{
    private static readonly string[] Roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    private readonly string _group;

    private Freezer(string group) => _group = group;

    /// <summary>Freezes processes; null: this machine has no such control groups.</summary>
    public static Freezer? Freeze(params ReadOnlySpan<int> pids)
    {
        var root = Array.Find(Roots, r =>
            File.Exists(Path.Combine(r, "cgroup.procs")) && File.Exists(Path.Combine(r, "cgroup.controllers"))
        );
        if (root is null)
            return null;
        var group = Path.Combine(root, $"{NamePrefix(Environment.ProcessId)}{Guid.NewGuid():n}");
        Directory.CreateDirectory(group);
        Freezer freezer = new(group);
        foreach (var pid in pids)
            Move(pid.ToString(CultureInfo.InvariantCulture), group);
        File.WriteAllText(Path.Combine(group, "cgroup.freeze"), "1");
        return freezer;
    }

    /// <summary>Thaws them.</summary>
    public void Dispose() => Remove(_group);

    /// <summary>Removes the groups of a killed storm.</summary>
    public static void RemoveGroupsOf(int pid)
    {
        foreach (var root in Roots.Where(Directory.Exists))
        {
            foreach (var group in Directory.EnumerateDirectories(root, NamePrefix(pid) + "*"))
                Remove(group);
        }
    }

    private static string NamePrefix(int pid) => Invariant($"bgsnap-storm-{pid}-");

    private static void Remove(string group)
    {
        File.WriteAllText(Path.Combine(group, "cgroup.freeze"), "0");
        foreach (var process in File.ReadAllLines(Path.Combine(group, "cgroup.procs")))
            Move(process, Path.GetDirectoryName(group)!);
        for (var attempt = 0; attempt < 50; attempt++)
        {
            try
            {
                Directory.Delete(group);
                return;
            }
            catch (IOException)
            {
                Thread.Sleep(20); // its last process is still exiting
            }
        }
    }

    private static void Move(string process, string group)
    {
        try
        {
            File.WriteAllText(Path.Combine(group, "cgroup.procs"), process);
        }
        catch (IOException)
        {
            // It has ended.
        }
    }
}
