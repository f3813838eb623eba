using System.Globalization;
using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Removes what a killed agent may have left in QEMU: descriptor sets with our mark, the userfaultfd device that the agent passed to QEMU,
/// a userfaultfd that was created there but not fetched yet, and a pipe that QEMU did not close when its write failed.
/// </summary>
internal static class DescriptorSweep
{
    private const long SysClose = 3;

    /// <returns>How many leftovers were removed.</returns>
    internal static int Run(IQmpMonitor qmp, CheckedProcess? process)
    {
        int removed = RemoveSets(qmp) + (QemuMark.Take(qmp, UserfaultfdSource.DeviceName) ? 1 : 0);
        List<int> orphans = process is null ? [] : Orphans(process);
        if (orphans.Count == 0)
            return removed;
        RemoteThread.Hold(process!, SyscallGadget.Find(process!), thread =>
        {
            // Check again now that this thread stands still: QEMU may have closed a descriptor since and reused its number for a file of
            // its own.
            foreach (int fd in orphans.Where(fd => IsOrphan(process!, fd)))
                thread.Call(SysClose, (ulong)fd);
        });
        return removed + orphans.Count;
    }

    /// <summary>Removes the descriptor sets with our mark.</summary>
    private static int RemoveSets(IQmpMonitor qmp)
    {
        int removed = 0;
        using QmpAnswer sets = qmp.Execute("query-fdsets");
        foreach (QmpValue set in sets.Return.EnumerateArray())
        {
            bool ours = set.GetProperty("fds")
                .EnumerateArray()
                .Any(f =>
                    f.TryGetProperty("opaque", out QmpValue o)
                    && (o.GetString() == UserfaultfdSource.Opaque || ScratchNote.Is(o.GetString()))
                );
            if (!ours)
                continue;
            qmp.Execute("remove-fd", QmpJson.Object(("fdset-id", set.GetProperty("fdset-id").GetInt32()))).Dispose();
            removed++;
        }
        return removed;
    }

    private static List<int> Orphans(ProcessEntry process)
    {
        List<int> found = [];
        try
        {
            foreach (string link in process.Descriptors())
            {
                int fd = int.Parse(Path.GetFileName(link), CultureInfo.InvariantCulture);
                if (IsOrphan(process, fd))
                    found.Add(fd);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // We may not look at this process, so it cannot contain anything of ours either.
        }
        return found;
    }

    private static bool IsOrphan(ProcessEntry process, int fd)
    {
        string link = process.At(string.Create(CultureInfo.InvariantCulture, $"fd/{fd}"));
        return new FileInfo(link).LinkTarget switch
        {
            "anon_inode:[userfaultfd]" => IsFreshUserfaultfd(process, fd),
            { } target when UserfaultfdDevice.IsDevice(target) => UserfaultfdDevice.IsOurs(process, fd),
            { } target => target.StartsWith("pipe:", StringComparison.Ordinal) && DeviceStatePipe.IsBroken(link),
            null => false,
        };
    }

    /// <summary>A context on which UFFDIO_API has not been called: QEMU's own always have features.</summary>
    private static bool IsFreshUserfaultfd(ProcessEntry process, int fd)
    {
        // "API:\taa:features:known", features in hexadecimal.
        string? api = File.ReadLines(process.At($"fdinfo/{fd}")).FirstOrDefault(l => l.StartsWith("API:", StringComparison.Ordinal));
        return api?.Split(':') is [_, _, "0", _];
    }
}
