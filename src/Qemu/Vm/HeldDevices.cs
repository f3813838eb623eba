using System.Globalization;
using Bgsnap.Linux;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>
/// Detects hardware that reaches guest memory past QEMU's page tables, by the descriptors and memory that QEMU holds: not every such path
/// shows as a device of its own kind in the machine (<c>-netdev vhost-vdpa</c> is behind a plain virtio-net-pci, <c>nvme://</c> and
/// libblkio are behind a disk).
/// </summary>
internal static class HeldDevices
{
    /// <summary>Less than this is not guest memory, but a ring or a buffer of QEMU itself.</summary>
    private const long MostPinnedKiB = 16 * 1024;

    private static readonly (string Prefix, string What)[] Paths =
    [
        ("/dev/vfio/", "VFIO"),
        ("/dev/iommu", "an IOMMU context"),
        ("/dev/vhost-vdpa", "vDPA"),
        ("/dev/infiniband/", "RDMA"),
        ("/dev/ng", "NVMe passthrough"),
        ("anon_inode:[vfio", "VFIO"),
        ("anon_inode:[iommufd", "an IOMMU context"),
        ("anon_inode:[infinibandevent", "RDMA"),
    ];

    /// <summary>Refuses a QEMU that holds such a device. Cheap enough to repeat after the stop window.</summary>
    /// <param name="process">QEMU's process.</param>
    /// <exception cref="RefusedException">QEMU holds such a device.</exception>
    internal static void Refuse(ProcessEntry process)
    {
        if (Of(process) is { } found)
            throw new RefusedException(
                Reasons.DeviceUnsupported,
                $"QEMU (process {process.Pid}) {found}: its DMA bypasses the write protection of guest memory; remove that "
                    + "device, disk or network back end from the VM"
            );
    }

    /// <summary>What a process holds, as part of a sentence; null: nothing.</summary>
    /// <param name="process">QEMU's process.</param>
    internal static string? Of(ProcessEntry process) => Descriptor(process) ?? Pinned(process);

    private static string? Descriptor(ProcessEntry process)
    {
        try
        {
            foreach (string entry in process.Descriptors())
            {
                if (
                    new FileInfo(entry).LinkTarget is { } link
                    && Paths.FirstOrDefault(p => link.StartsWith(p.Prefix, StringComparison.Ordinal)) is { What: { } what }
                )
                    return $"has {link} open ({what})";
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The process has ended, or we may not inspect it: then the agent engine is not available either.
        }
        return null;
    }

    /// <summary>
    /// Memory that the kernel pinned long-term for hardware: vDPA, iommufd, RDMA and registered buffers count there, whatever their
    /// descriptors are called.
    /// </summary>
    private static string? Pinned(ProcessEntry process)
    {
        const string field = "VmPin:";
        try
        {
            foreach (string line in File.ReadLines(process.At("status")))
            {
                if (line.StartsWith(field, StringComparison.Ordinal))
                    return
                        long.TryParse(
                            line[field.Length..].Replace("kB", "", StringComparison.Ordinal),
                            NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite,
                            CultureInfo.InvariantCulture,
                            out long kib
                        )
                        && kib >= MostPinnedKiB
                        ? $"has {kib >> 10} MiB of its memory pinned for a device"
                        : null;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The process has ended.
        }
        return null;
    }
}
