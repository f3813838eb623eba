using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>A control group that limits the rate at which its processes read from one device: cgroup v1's blkio, or io of v2.</summary>
public sealed class SlowReads : IDisposable
{
    private readonly string _group;

    private SlowReads(string group) => _group = group;

    /// <summary>The command that starts a program in the group; it precedes the program's own command line.</summary>
    public IReadOnlyList<string> Starter => ["sh", "-c", "echo $$ > \"$0\" && exec \"$@\"", Path.Combine(_group, "cgroup.procs")];

    /// <summary>Creates a group; null: this machine has no such control groups.</summary>
    /// <param name="device">Major and minor number.</param>
    /// <param name="bytesPerSecond">The limit.</param>
    public static SlowReads? TryCreate(string device, long bytesPerSecond)
    {
        var limit = bytesPerSecond.ToString(CultureInfo.InvariantCulture);
        foreach (
            var (root, file, line) in new[]
            {
                ("/sys/fs/cgroup/blkio", "blkio.throttle.read_bps_device", $"{device} {limit}"),
                ("/sys/fs/cgroup", "io.max", $"{device} rbps={limit}"),
            }
        )
        {
            var group = Path.Combine(root, $"bgsnap-test-{Guid.NewGuid():N}");
            try
            {
                if (!File.Exists(Path.Combine(root, "cgroup.procs")))
                    continue;
                Directory.CreateDirectory(group);
                File.WriteAllText(Path.Combine(group, file), line);
                return new SlowReads(group);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                if (Directory.Exists(group))
                    Directory.Delete(group);
            }
        }

        return null;
    }

    /// <summary>Removes the limit; processes still in the group continue without it.</summary>
    public void Dispose()
    {
        var parent = Path.Combine(Path.GetDirectoryName(_group)!, "cgroup.procs");
        foreach (var process in File.ReadAllLines(Path.Combine(_group, "cgroup.procs")))
        {
            try
            {
                File.WriteAllText(parent, process);
            }
            catch (IOException)
            {
                // It has ended.
            }
        }

        Directory.Delete(_group);
    }
}
