using System.Globalization;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>The processes of a pod's first container, with their pids on this host.</summary>
public static class Processes
{
    /// <summary>Their pids; empty if the container does not run.</summary>
    public static async Task<List<int>> OfPodAsync(Kubectl kubectl, string ns, string pod)
    {
        List<int> pids = [];
        var status = (await kubectl.GetAsync("-n", ns, "pod", pod))["status"]!;
        if (status["containerStatuses"]?[0]?["containerID"]?.GetValue<string>() is not { } id)
            return pids;
        id = id[(id.IndexOf("://", StringComparison.Ordinal) + 3)..];
        foreach (var directory in Directory.GetDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(directory), CultureInfo.InvariantCulture, out var pid))
                continue;
            try
            {
                if ((await File.ReadAllTextAsync(Path.Join(directory, "cgroup"))).Contains(id, StringComparison.Ordinal))
                    pids.Add(pid);
            }
            catch (IOException)
            {
                // It has ended.
            }
        }
        return pids;
    }

    /// <summary>Kills all of them, as a crash does.</summary>
    public static async Task KillAsync(Kubectl kubectl, string ns, string pod)
    {
        foreach (var pid in await OfPodAsync(kubectl, ns, pod))
            await Command.RunAsync("kill", ["-KILL", pid.ToString(CultureInfo.InvariantCulture)]);
    }
}
