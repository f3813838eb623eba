using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>A control group with the path of a kubelet's container, and a process in it.</summary>
internal sealed class ControlGroup : IDisposable
{
    // One hierarchy is enough: /proc/PID/cgroup lists all of them.
    private static readonly string[] Hierarchies =
    [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/systemd",
        "/sys/fs/cgroup/pids",
    ];

    private readonly string _hierarchy;
    private readonly string _top;
    private readonly int _pid;

    private ControlGroup(string hierarchy, string podUid, string containerId, int pid)
    {
        (_hierarchy, _pid) = (hierarchy, pid);
        _top = Path.Combine(hierarchy, $"bgsnap-test-{Guid.NewGuid():N}");
        Container = Path.Combine(_top, $"pod{podUid}", containerId);
    }

    private string Container { get; }

    /// <summary>Moves a process into a new group, or skips the test where that is impossible.</summary>
    public static ControlGroup Of(int pid, string podUid, string containerId)
    {
        var hierarchy = Hierarchies.FirstOrDefault(h => File.Exists(Path.Combine(h, "cgroup.procs")));
        Skip.If(hierarchy is null, "no hierarchy of control groups is mounted");
        ControlGroup group = new(hierarchy!, podUid, containerId, pid);
        Directory.CreateDirectory(group.Container);
        Move(pid, group.Container);
        return group;
    }

    public void Dispose()
    {
        try
        {
            Move(_pid, _hierarchy);
        }
        catch (IOException)
        {
            // It has ended.
        }

        for (var directory = Container; directory.Length >= _top.Length; directory = Path.GetDirectoryName(directory)!)
            Directory.Delete(directory);
    }

    private static void Move(int pid, string group) =>
        File.WriteAllText(Path.Combine(group, "cgroup.procs"), pid.ToString(CultureInfo.InvariantCulture));
}
