using System.Globalization;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Vm;

/// <summary>
/// Hardware that reaches guest memory past QEMU's page tables, found by what QEMU holds: not every way to it is a device of its own kind in
/// the machine (<c>-netdev vhost-vdpa</c> stands behind a plain virtio-net-pci, <c>nvme://</c> and libblkio behind a disk).
/// </summary>
internal static class HeldDevices
{
    /// <summary>Less than this is no guest memory, but a ring or a buffer of QEMU's own.</summary>
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

    /// <summary>Refuses a QEMU that has such a device. Cheap enough to be asked again after the stop window.</summary>
    /// <param name="process">QEMU's process.</param>
    /// <exception cref="CaptureRefusedException">It has one.</exception>
    internal static void Refuse(ProcessEntry process)
    {
        if (Of(process) is { } found)
            throw new CaptureRefusedException(
                "DeviceUnsupported",
                $"QEMU (process {process.Pid}) {found}: its DMA writes to guest memory past any write protection; remove that "
                    + "device, disk or network back end from the VM"
            );
    }

    /// <summary>What a process holds, as a part of a sentence; null: nothing.</summary>
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
            // It has ended, or it is not ours to look at: then the agent engine is not to be had either.
        }
        return null;
    }

    /// <summary>
    /// Memory that the kernel pinned for long, for hardware: vDPA, iommufd, RDMA and registered buffers count there, whatever their
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
            // It has ended.
        }
        return null;
    }
}
