using System.Globalization;
using Bgsnap.Linux;

namespace Bgsnap.Qemu.Vm;

/// <summary>Finds the processes of a container by the cgroup that the container runtime gave it.</summary>
/// <remarks>
/// With the cgroupfs driver the path ends in <c>pod&lt;uid&gt;/&lt;id&gt;</c>, with the systemd driver in
/// <c>…-pod&lt;uid&gt;.slice/cri-containerd-&lt;id&gt;.scope</c>, where the uid has underscores instead of dashes. The id has 64
/// hexadecimal digits and is matched as a whole part between such separators.
/// </remarks>
internal static class ContainerProcesses
{
    /// <summary>The proc file system; tests use their own.</summary>
    internal const string Proc = "/proc";

    /// <summary>Whether a process runs in a container and, if given, in a pod.</summary>
    internal static bool IsIn(ProcessEntry process, string containerId, string? podUid = null)
    {
        try
        {
            return File.ReadLines(process.At("cgroup")).Any(line => Names(line, containerId) && (podUid is null || NamesPod(line, podUid)));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // it has ended
        }
    }

    /// <summary>All live processes of a container; each is open until the next one is enumerated.</summary>
    internal static IEnumerable<ProcessEntry> Of(string containerId, string podUid, string proc = Proc)
    {
        foreach (string path in Directory.EnumerateDirectories(proc))
        {
            if (
                !int.TryParse(Path.GetFileName(path), NumberStyles.None, CultureInfo.InvariantCulture, out int pid)
                || TryOpen(pid, proc) is not { } process
            )
                continue;
            using (process)
            {
                if (IsIn(process, containerId, podUid))
                    yield return process;
            }
        }
    }

    private static ProcessEntry? TryOpen(int pid, string proc)
    {
        try
        {
            return ProcessEntry.Open(pid, proc);
        }
        catch (LinuxException)
        {
            return null; // it has ended
        }
    }

    private static bool Names(string line, string id) => id.Length >= 32 && line.Split('/', '-', '.', ':').Contains(id);

    private static bool NamesPod(string line, string uid) =>
        line.Contains("pod" + uid, StringComparison.Ordinal) || line.Contains("pod" + uid.Replace('-', '_'), StringComparison.Ordinal);
}
