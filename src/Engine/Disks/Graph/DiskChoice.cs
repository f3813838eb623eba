using Bgsnap.Engine.Capture;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>Chooses how the disks of a machine are captured, and refuses those that cannot be.</summary>
internal static class DiskChoice
{
    /// <summary>The method by which the disks are captured.</summary>
    /// <exception cref="RefusedException">This QEMU cannot do it without risk to the guest's writes.</exception>
    internal static IDiskMethod Method(CaptureOptions options, IQmpMonitor qmp, IReadOnlyList<CapturedDisk> copied, long[] shares)
    {
        if (options.DiskMethod == DiskMethod.Overlay)
            return new Overlay(qmp, copied, options.ScratchDirectory, shares);
        string? cannotFilter =
            qmp.QemuVersion < CopyBeforeWrite.FirstQemu
                ? $"QEMU {qmp.QemuVersion} has no copy-before-write filter that spares the guest (7.1 and later have one)"
            : IoThreads.FilterAborts(qmp) is { } device
                ? $"device {device} has an iothread, and QEMU {qmp.QemuVersion} may abort when a filter is put above its disk (9.0 "
                    + "does not)"
            : null;
        if (cannotFilter is null)
            return new CopyBeforeWrite(qmp, copied, options.ScratchDirectory, shares);
        throw new RefusedException(
            Reasons.QemuTooOld,
            $"the disks cannot be captured while the guest runs: {cannotFilter}. Use a newer QEMU, remove the iothread if "
                + "there is one, "
                + "capture the disks by VolumeSnapshots, capture with --disks none, or ask for --disk-method overlay: then what the "
                + "guest writes during "
                + "the capture, flushed or not, is lost when QEMU ends before it is merged back"
        );
    }

    /// <summary>Refuses encrypted disks: what is read through QEMU is what the guest sees.</summary>
    internal static void RefuseEncrypted(IReadOnlyList<CapturedDisk> disks)
    {
        if (disks.FirstOrDefault(d => d.Disk.IsEncrypted) is { Disk.Name: var name })
        {
            throw new RefusedException(
                Reasons.DiskEncrypted,
                $"disk {name} is encrypted, and the snapshot would store it decrypted: exclude it, or allow that with --decrypt-disks "
                    + "(spec.capture.encryptedDisks: StoreDecrypted)"
            );
        }
    }

    /// <summary>
    /// Refuses shared images. Two devices on one image (multipath) would have to be switched as one, and writes through another node of the
    /// same image bypass the agent's filter.
    /// </summary>
    internal static void RefuseShared(IReadOnlyList<CapturedDisk> copied, IEnumerable<VmDisk> all)
    {
        VmDisk[] writable = [.. all.Where(d => !d.IsReadOnly && d.Device is not null)];
        foreach (VmDisk disk in copied.Select(c => c.Disk))
        {
            if (writable.FirstOrDefault(o => o.Name != disk.Name && IsOne(o, disk)) is not { } other)
                continue;
            string image = other.NodeName == disk.NodeName ? $"node {disk.NodeName}" : disk.Filename;
            throw new RefusedException(
                Reasons.DiskShared,
                $"disks {disk.Name} and {other.Name} are one image ({image}): what the guest writes through one would be missing "
                    + "in the other; "
                    + "remove one of them from the VM, or capture with --disks none"
            );
        }
    }

    private static bool IsOne(VmDisk a, VmDisk b) => a.NodeName == b.NodeName || (a.Filename == b.Filename && a.Filename.StartsWith('/'));
}
