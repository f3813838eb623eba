using System.Globalization;
using Bgsnap.Linux;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>Refuses memory that another process can write behind QEMU's page tables, where our write protection does not see it.</summary>
internal static class SharedRam
{
    /// <exception cref="RefusedException">Another process maps it too, or it is a file on a disk, which the kernel cannot
    /// write-protect.</exception>
    internal static void Refuse(ProcessEntry process, IReadOnlyList<RamBlock> blocks)
    {
        RefuseDiskFiles(process, blocks);
        HashSet<string> shared = [.. blocks.Where(b => b.Mapping.IsShared).Select(b => Key(b.Mapping))];
        if (shared.Count == 0)
            return;
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (
                !int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out int other)
                || other == process.Pid
                || other == Environment.ProcessId
            )
                continue;
            try
            {
                using ProcessEntry one = ProcessEntry.Open(other);
                if (MemoryMapping.Read(one).Any(m => m is { IsShared: true, IsWritable: true } && shared.Contains(Key(m))))
                    throw new RefusedException(
                        Reasons.SharedMemory,
                        $"process {other} ({File.ReadAllText(one.At("comm")).Trim()}) also maps the guest's memory, and writes to it "
                            + "without the write protection (vhost-user or virtiofsd); remove that device from the VM"
                    );
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The process has ended meanwhile, or we may not inspect it.
            }
        }
    }

    private static void RefuseDiskFiles(ProcessEntry process, IReadOnlyList<RamBlock> blocks)
    {
        foreach (RamBlock b in blocks.Where(b => b.Mapping.Inode != 0))
        {
            string? fileSystem = FileSystemOf(process.At($"map_files/{b.Mapping.Start:x}-{b.Mapping.End:x}"));
            if (fileSystem is not (null or "tmpfs" or "hugetlbfs"))
                throw new RefusedException(
                    Reasons.RamOnDisk,
                    $"RAM block {b.Name} is a file on a disk ({b.Mapping.Path}, {fileSystem}), which the kernel cannot "
                        + "write-protect: use memory-backend-memfd, or a file on tmpfs or hugetlbfs"
                );
        }
    }

    /// <summary>Kind of the file system that a file is on; null: it cannot be inspected.</summary>
    private static string? FileSystemOf(string path)
    {
        try
        {
            return new DriveInfo(path).DriveFormat;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string Key(MemoryMapping m) => $"{m.Device}:{m.Inode}";
}
