namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// Captures of several tenants are processes of one container. Kubernetes since 1.28 has the kernel end all of a container's processes when
/// its memory is used up
/// (<c>memory.oom.group</c> of cgroup v2): one tenant's capture would take the others' along, and the node's agent. Without that the kernel
/// ends one process, by
/// <see cref="ChildLimits.EndedFirst"/> the largest of those that work for a machine.
/// </summary>
internal static class SharedFate
{
    /// <summary>Takes this process's cgroup out of it.</summary>
    /// <param name="membership">Which cgroup that is.</param>
    /// <param name="mount">Where cgroups are seen.</param>
    /// <returns>Why all would still be ended together; null: they would not.</returns>
    internal static string? End(string membership = "/proc/self/cgroup", string mount = "/sys/fs/cgroup")
    {
        try
        {
            const string version2 = "0::";
            string? line = File.ReadLines(membership).FirstOrDefault(l => l.StartsWith(version2, StringComparison.Ordinal));
            string? path = line?[version2.Length..];
            string file = Path.Join(mount, path, "memory.oom.group");
            // Version 1 has no such thing.
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
