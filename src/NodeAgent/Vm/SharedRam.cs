using System.Globalization;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Vm;

/// <summary>Refuses memory that another process can write behind QEMU's page tables, where no protection of ours is seen.</summary>
internal static class SharedRam
{
    internal static void Refuse(int pid, IReadOnlyList<RamBlock> blocks)
    {
        HashSet<string> shared = [.. blocks.Where(b => b.Mapping.IsShared).Select(b => Key(b.Mapping))];
        if (shared.Count == 0)
            return;
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out int other) || other == pid || other == Environment.ProcessId)
                continue;
            try
            {
                if (MemoryMapping.Read(other).Any(m => m is { IsShared: true, IsWritable: true } && shared.Contains(Key(m))))
                    throw new CaptureRefusedException("SharedMemory", $"process {other} ({File.ReadAllText(Path.Join(folder, "comm")).Trim()}) maps the guest's memory too and writes to it past the protection (vhost-user, virtiofsd?); remove that device from the VM");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It has ended meanwhile, or it is not ours to look at.
            }
        }
    }

    private static string Key(MemoryMapping m) => $"{m.Device}:{m.Inode}";
}
