using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>
/// What in an instance's spec makes a correct capture impossible. The agent checks the same in QEMU itself; this check reports it before a
/// claim or pod is created, in the terms of the VM's spec.
/// </summary>
internal static class CaptureBlockers
{
    private const string Dma = "is passed through by VFIO, and its DMA bypasses write protection",
        Other = "another process writes to the guest's memory";
    private static readonly string[] SharingPlugins = ["vhostuser", "passt", "vdpa"];

    /// <summary>Refuses an instance that cannot be captured.</summary>
    /// <exception cref="TerminalException">The instance has such a device or disk.</exception>
    public static void Refuse(VirtualMachineInstance vmi, CaptureSpec? how)
    {
        VmiDomain domain = vmi.Spec.Domain;
        if (Of(domain) is { } blocker)
            throw new TerminalException(
                Reasons.DeviceUnsupported,
                $"VirtualMachineInstance {vmi.Metadata.Name} cannot be captured: {blocker}; remove it from the virtual machine, "
                    + "then create another snapshot"
            );
        if (vmi.Status?.Memory is { } memory && IsPlugged(memory))
            throw new TerminalException(
                Reasons.DeviceUnsupported,
                $"VirtualMachineInstance {vmi.Metadata.Name} cannot be captured: memory was hot-plugged since it started with "
                    + $"{memory.GuestAtBoot}, and virtio-mem may plug and unplug memory at any moment; restart the virtual "
                    + "machine, so that it starts with all of its memory, then create another snapshot"
            );
        if (domain.Devices?.Disks?.FirstOrDefault(d => d.Shareable == true && IsWanted(d, how)) is { } disk)
            throw new TerminalException(
                Reasons.DiskShared,
                $"disk {disk.Name} of VirtualMachineInstance {vmi.Metadata.Name} is shareable: other VMs may write to it, so "
                    + "that a snapshot of it would not show one instant. Name the other disks in spec.capture.disks of "
                    + $"another snapshot, as {Alias("<disk>")}"
            );
    }

    private static string? Of(VmiDomain domain)
    {
        if (domain.LaunchSecurity is not null)
            return "launchSecurity encrypts its memory, which cannot be read from outside";
        if (domain.Devices is not { } devices)
            return null;
        return devices.Gpus is [var gpu, ..] ? $"gpu {gpu.Name} {Dma}"
            : devices.HostDevices is [var device, ..] ? $"host device {device.Name} {Dma}"
            : devices.Interfaces?.FirstOrDefault(i => i.Sriov is not null) is { } function ? $"SR-IOV interface {function.Name} {Dma}"
            : devices.Interfaces?.FirstOrDefault(IsShared) is { } user ? $"interface {user.Name} uses vhost-user: {Other}"
            : devices.Filesystems?.FirstOrDefault(f => f.Virtiofs is not null) is { } files
                ? $"filesystem {files.Name} uses virtiofs: {Other}"
            : null;
    }

    // KubeVirt adds the virtio-mem device when memory is first plugged: maxGuest alone, which many VMs have by default, does no harm.
    private static bool IsPlugged(VmiMemory memory) =>
        memory.GuestAtBoot is { } first
        && new[] { memory.GuestCurrent, memory.GuestRequested }.Any(m =>
            m is not null && new ResourceQuantity(m).ToDecimal() != new ResourceQuantity(first).ToDecimal()
        );

    private static bool IsShared(VmiInterface i) =>
        i.PasstBinding is not null
        || (i.Binding?.Name is { } plugin && SharingPlugins.Any(p => plugin.Contains(p, StringComparison.OrdinalIgnoreCase)));

    private static bool IsWanted(VmiDisk disk, CaptureSpec? how) =>
        how?.Disks?.Select switch
        {
            "None" => false,
            "Named" => how.Disks.Names?.Contains(Alias(disk.Name)) == true,
            _ => true,
        };

    // The alias that KubeVirt gives a disk's device in libvirt; the agent identifies the disk by it.
    private static string Alias(string disk) => "ua-" + disk;
}
