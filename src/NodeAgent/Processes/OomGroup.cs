namespace Bgsnap.NodeAgent.Processes;

/// <summary>
/// Captures of several tenants are processes of one container. Since Kubernetes 1.28 the kernel ends all processes of a container that runs
/// out of memory (<c>memory.oom.group</c> of cgroup v2): one tenant's capture would end the others' captures and the node's agent. Without
/// that setting the kernel ends a single process: because of <see cref="ChildLimits.EndedFirst"/>, the largest of those that work for a
/// machine.
/// </summary>
internal static class OomGroup
{
    /// <summary>Turns the setting off for this process's cgroup.</summary>
    /// <param name="membership">The file that names this process's cgroup.</param>
    /// <param name="mount">Where the cgroup file system is mounted.</param>
    /// <returns>Why all processes would still be ended together; null: they would not.</returns>
    internal static string? End(string membership = "/proc/self/cgroup", string mount = "/sys/fs/cgroup")
    {
        try
        {
            const string version2 = "0::";
            string? line = File.ReadLines(membership).FirstOrDefault(l => l.StartsWith(version2, StringComparison.Ordinal));
            string? path = line?[version2.Length..];
            string file = Path.Join(mount, path, "memory.oom.group");
            // Version 1 does not have this setting.
            if (path is not null && File.Exists(file) && File.ReadAllText(file).Trim() != "0")
                File.WriteAllText(file, "0");
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return e.Message;
        }
    }
}
