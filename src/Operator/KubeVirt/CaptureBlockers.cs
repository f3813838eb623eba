using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>
/// What in an instance's spec makes a correct capture impossible. The agent checks the same in QEMU itself; this check reports it before a
/// claim or pod is created, in the terms of the VM's spec.
/// </summary>
internal static class CaptureBlockers
{
    private const string Dma = "is passed through by VFIO, whose DMA no protection sees",
        Other = "another process that writes to the guest's memory";
    private static readonly string[] SharingPlugins = ["vhostuser", "passt", "vdpa"];

    /// <summary>Refuses an instance that cannot be captured.</summary>
    /// <exception cref="Hopeless">The instance has such a device or disk.</exception>
    public static void Refuse(VirtualMachineInstance vmi, CaptureSpec? how)
    {
        VmiDomain domain = vmi.Spec.Domain;
        if (Of(domain) is { } blocker)
            throw new Hopeless(
                "DeviceUnsupported",
                $"VirtualMachineInstance {vmi.Metadata.Name} cannot be captured: {blocker}; remove it from the virtual machine, "
                    + "then create another snapshot"
            );
        if (vmi.Status?.Memory is { } memory && IsPlugged(memory))
            throw new Hopeless(
                "DeviceUnsupported",
                $"VirtualMachineInstance {vmi.Metadata.Name} cannot be captured: memory was plugged into it since it began with "
                    + $"{memory.GuestAtBoot}, by virtio-mem, which plugs and unplugs it at any moment; restart the virtual machine, "
                    + "which then begins with all of it, then create another snapshot"
            );
        if (domain.Devices?.Disks?.FirstOrDefault(d => d.Shareable == true && IsWanted(d, how)) is { } disk)
            throw new Hopeless(
                "DiskShared",
                $"disk {disk.Name} of VirtualMachineInstance {vmi.Metadata.Name} is shareable, so that other VMs write to it and "
                    + "there is no instant that it shows: name the other disks in spec.capture.disks of another snapshot, as "
                    + $"{Alias("<disk>")}"
            );
    }

    private static string? Of(VmiDomain domain)
    {
        if (domain.LaunchSecurity is not null)
            return "its memory is sealed by launchSecurity, and reads as noise from outside";
        if (domain.Devices is not { } devices)
            return null;
        return devices.Gpus is [var gpu, ..] ? $"gpu {gpu.Name} {Dma}"
            : devices.HostDevices is [var device, ..] ? $"host device {device.Name} {Dma}"
            : devices.Interfaces?.FirstOrDefault(i => i.Sriov is not null) is { } function
                ? $"interface {function.Name} is SR-IOV's and {Dma}"
            : devices.Interfaces?.FirstOrDefault(IsShared) is { } user ? $"interface {user.Name} is vhost-user's, {Other}"
            : devices.Filesystems?.FirstOrDefault(f => f.Virtiofs is not null) is { } files
                ? $"filesystem {files.Name} is virtiofs', {Other}"
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
