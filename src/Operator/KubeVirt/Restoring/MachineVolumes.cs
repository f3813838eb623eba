using System.Text.Json.Nodes;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>Decides which volumes of a VM get a claim with a disk of the snapshot, and which KubeVirt generates again.</summary>
internal static class MachineVolumes
{
    /// <summary>Volumes that KubeVirt generates from the VM's spec or from other objects, which still hold the content.</summary>
    private static readonly string[] Generated =
    [
        "cloudInitNoCloud",
        "cloudInitConfigDrive",
        "sysprep",
        "configMap",
        "secret",
        "downwardAPI",
        "downwardMetrics",
        "serviceAccount",
    ];

    /// <summary>Plans the claims, and replaces each volume's claim in the spec.</summary>
    /// <param name="restore">The restore.</param>
    /// <param name="snapshot">Its snapshot.</param>
    /// <param name="spec">Spec of the instance; the method changes its volumes.</param>
    /// <param name="models">By volume: the claim whose properties the new one copies where the restore's spec does not set them.</param>
    /// <exception cref="TerminalException">A disk of the VM is not in the snapshot, or a stored disk has no volume.</exception>
    public static IReadOnlyList<PlannedDisk> Plan(
        VMBackgroundRestore restore,
        VMBackgroundSnapshot snapshot,
        JsonObject spec,
        IReadOnlyDictionary<string, V1PersistentVolumeClaim> models
    )
    {
        KubeVirtTarget target = restore.Spec.Target.VirtualMachine!;
        List<DiskStatus> disks = [.. (snapshot.Status?.Disks ?? []).Where(d => d.StoredBytes > 0)];
        JsonObject[] volumes = [.. (spec["volumes"] as JsonArray ?? []).OfType<JsonObject>()];
        if ((target.Claims ?? []).Find(c => !Array.Exists(volumes, v => Name(v) == c.Volume)) is { } extra)
            throw Misfit(
                Reasons.NoSuchVolume,
                $"the virtual machine of snapshot {snapshot.Metadata.Name} has no volume {extra.Volume}; it has "
                    + $"{string.Join(", ", volumes.Select(Name))}: correct spec.target.virtualMachine.claims"
            );
        List<PlannedDisk> planned = [];
        foreach (JsonObject volume in volumes.Where(v => !Array.Exists(Generated, v.ContainsKey)))
        {
            string name = Name(volume);
            if (disks.Find(d => d.Name == Alias(name)) is { } disk)
            {
                planned.Add(Planned(restore, name, disk, models.GetValueOrDefault(name)));
                Replace(volume, name, planned[^1].Claim.Name);
            }
            else if (volume.ContainsKey("hostDisk"))
            {
                // The operator creates the VM with its own rights, and the author of a restore may not be allowed to use files of a node.
                throw Misfit(
                    Reasons.HostDisk,
                    $"volume {name} of the virtual machine is a file on a node (hostDisk), which a restore into KubeVirt "
                        + "cannot write: restore into your own pod (spec.target.pod)"
                );
            }
            else if (IsWritten(spec, name) && KeepsData(volume))
            {
                string note = snapshot.Status?.Disks?.Find(d => d.Name == Alias(name))?.Note is { } why ? $" ({why})" : "";
                throw Misfit(
                    Reasons.DiskNotCaptured,
                    $"disk {name} of the virtual machine is not in snapshot {snapshot.Metadata.Name}{note}, so memory and "
                        + "disks would not match: restore a snapshot that has all disks"
                );
            }
        }
        if (disks.Find(d => !planned.Exists(p => p.Disk == d) && !Array.Exists(volumes, v => Alias(Name(v)) == d.Name)) is { } foreign)
            throw Misfit(
                Reasons.NoSuchVolume,
                $"disk {foreign.Name} of snapshot {snapshot.Metadata.Name} belongs to no volume of its virtual machine: restore it "
                    + "into a pod (spec.target.template)"
            );
        return planned;
    }

    /// <summary>Name of the claim that a volume gets.</summary>
    public static string ClaimName(VMBackgroundRestore restore, string volume)
    {
        KubeVirtTarget target = restore.Spec.Target.VirtualMachine!;
        // A VM that is put back keeps its old claims, which may have the plain name.
        return Asked(target, volume)?.Name
            ?? (PutBack.IsWanted(restore) ? $"{target.Name}-{volume}-{Ownership.Short(restore)}" : $"{target.Name}-{volume}");
    }

    private static PlannedDisk Planned(VMBackgroundRestore restore, string volume, DiskStatus disk, V1PersistentVolumeClaim? like)
    {
        KubeVirtClaim? asked = Asked(restore.Spec.Target.VirtualMachine!, volume);
        // Access modes and volumeMode of one storage class may not work with another.
        V1PersistentVolumeClaimSpec? model =
            asked?.StorageClassName is { } named && named != like?.Spec.StorageClassName ? null : like?.Spec;
        RestoreClaim claim = new()
        {
            Disk = disk.Name!,
            Name = ClaimName(restore, volume),
            StorageClassName = asked?.StorageClassName ?? model?.StorageClassName,
            AccessModes = asked?.AccessModes ?? model?.AccessModes?.ToList(),
            Size = asked?.Size,
        };
        // KubeVirt's layout: a claim with a file system holds the file disk.img, always raw.
        string mount = "/disks/" + volume;
        return (asked?.VolumeMode ?? model?.VolumeMode) == "Block"
            ? new PlannedDisk(disk, claim, mount, null) { Driver = "raw" }
            : new PlannedDisk(disk, claim, mount + "/disk.img", new V1VolumeMount { Name = volume, MountPath = mount }) { Driver = "raw" };
    }

    private static KubeVirtClaim? Asked(KubeVirtTarget target, string volume) => target.Claims?.Find(c => c.Volume == volume);

    private static void Replace(JsonObject volume, string name, string claim)
    {
        volume.Clear();
        volume["name"] = name;
        volume["persistentVolumeClaim"] = new JsonObject { ["claimName"] = claim };
    }

    // A CD-ROM is read-only, and may be shared; a LUN is a device of the host.
    private static bool IsWritten(JsonObject spec, string volume) =>
        (spec["domain"]?["devices"]?["disks"] as JsonArray)?.OfType<JsonObject>().FirstOrDefault(d => d["name"]?.ToString() == volume)
            is { } device
        && !device.ContainsKey("cdrom")
        && device["disk"]?["readonly"]?.ToString() != "true";

    private static bool KeepsData(JsonObject volume) => !volume.ContainsKey("memoryDump");

    private static string Name(JsonObject volume) => volume["name"]?.ToString() ?? "";

    private static string Alias(string volume) => "ua-" + volume;

    private static TerminalException Misfit(string reason, string message) => new(reason, message + ", then create another restore");
}
