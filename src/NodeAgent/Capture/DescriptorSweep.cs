using System.Globalization;
using System.Text.Json;
using Bgsnap.NodeAgent.Disks.Graph;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Removes what an agent that was killed may have left in QEMU: descriptor sets with our mark, and a userfaultfd that was made there but not
/// fetched yet.
/// </summary>
internal static class DescriptorSweep
{
    private const long SysClose = 3;

    /// <returns>How many leftovers were removed.</returns>
    internal static int Run(QmpClient qmp, int pid)
    {
        int removed = RemoveSets(qmp);
        List<int> orphans = FreshUserfaultfds(pid);
        if (orphans.Count == 0)
            return removed;
        SyscallGadget gadget = SyscallGadget.Find(pid, MemoryMapping.Read(pid));
        RemoteThread.Hold(pid, pid, gadget, thread =>
        {
            foreach (int fd in orphans)
                thread.Call(SysClose, (ulong)fd);
        });
        return removed + orphans.Count;
    }

    /// <summary>Removes the descriptor sets with our mark.</summary>
    private static int RemoveSets(QmpClient qmp)
    {
        int removed = 0;
        using JsonDocument sets = qmp.Execute("query-fdsets");
        foreach (JsonElement set in sets.RootElement.GetProperty("return").EnumerateArray())
        {
            bool ours = set.GetProperty("fds").EnumerateArray().Any(f => f.TryGetProperty("opaque", out JsonElement o)
                && (o.GetString() == UserfaultfdSource.Opaque || ScratchNote.Is(o.GetString())));
            if (!ours)
                continue;
            qmp.Execute("remove-fd", QmpJson.Object(("fdset-id", set.GetProperty("fdset-id").GetInt32()))).Dispose();
            removed++;
        }
        return removed;
    }

    /// <summary>Contexts in the process on which UFFDIO_API has not been called: QEMU's own always have features.</summary>
    private static List<int> FreshUserfaultfds(int pid)
    {
        List<int> found = [];
        try
        {
            foreach (string link in Directory.EnumerateFiles($"/proc/{pid}/fd"))
            {
                if (new FileInfo(link).LinkTarget != "anon_inode:[userfaultfd]")
                    continue;
                int fd = int.Parse(Path.GetFileName(link), CultureInfo.InvariantCulture);
                // "API:\taa:features:known", features in hexadecimal.
                string? api = File.ReadLines($"/proc/{pid}/fdinfo/{fd}").FirstOrDefault(l => l.StartsWith("API:", StringComparison.Ordinal));
                if (api?.Split(':') is [_, _, "0", _])
                    found.Add(fd);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not ours to look at: then nothing of ours can be in there either.
        }
        return found;
    }
}
