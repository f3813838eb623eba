using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>The plan of a restore with a template. Pure: the same snapshot and template give the same plan.</summary>
internal static class TemplatePlan
{
    // Paths that a carrier uses itself.
    private static readonly string[] Taken = [Names.CarrierMountPath, "/usr/bin", "/proc", "/sys", "/dev"];

    /// <summary>Makes the plan.</summary>
    /// <exception cref="TerminalException">Template and snapshot do not fit; the message names the remedy.</exception>
    public static RestorePlan Of(VMBackgroundRestore restore, VMBackgroundSnapshot snapshot)
    {
        VirtualMachineTemplate template = restore.Spec.Target.Template!;
        V1PodSpec spec = TemplateCheck.Read(template.Pod.Spec);
        V1Container qemu = ContainerOf(template.Pod, spec);
        List<RestoreClaim> claims = template.Claims ?? [];
        List<DiskStatus> disks = [.. (snapshot.Status?.Disks ?? []).Where(d => d.StoredBytes > 0 || d.VolumeSnapshotName is not null)];
        if (disks.Find(d => !claims.Exists(c => c.Disk == d.Name)) is { } missing)
            throw Misfit(
                Reasons.DiskWithoutClaim,
                $"disk {missing.Name} of snapshot {snapshot.Metadata.Name} has no claim: add one to spec.target.template.claims"
            );
        if (claims.Find(c => !disks.Exists(d => d.Name == c.Disk)) is { } extra)
            throw Misfit(
                Reasons.NoSuchDisk,
                $"snapshot {snapshot.Metadata.Name} has no disk {extra.Disk}{Note(snapshot, extra.Disk)}; it has "
                    + $"{Listed(disks)}: correct spec.target.template.claims"
            );
        return new RestorePlan(spec, [.. claims.Select(c => Plan(disks.Find(d => d.Name == c.Disk)!, c, spec, qemu))]);
    }

    private static PlannedDisk Plan(DiskStatus disk, RestoreClaim claim, V1PodSpec spec, V1Container qemu)
    {
        string path = claim.Path
            ?? disk.Path
            ?? throw Misfit(
                Reasons.PathUnknown,
                $"the snapshot does not record the path of disk {disk.Name}: set path of its claim in spec.target.template.claims"
            );
        if (!path.StartsWith('/') || path.Split('/').Any(part => part is ".." or "."))
            throw Misfit(
                Reasons.PathUnknown,
                $"disk {disk.Name}: '{path}' is not an absolute path without '..': set path of its claim in spec.target.template.claims"
            );
        if (disk.Driver is not ("raw" or "qcow2"))
            throw Misfit(
                Reasons.DriverUnknown,
                $"disk {disk.Name} has format {disk.Driver ?? "unknown"}, but only raw and qcow2 can be written: restore into "
                    + "your own pod (spec.target.pod)"
            );
        string? volume = spec.Volumes?.FirstOrDefault(v => v.PersistentVolumeClaim?.ClaimName == claim.Name)?.Name;
        if (volume is null)
            throw Misfit(Reasons.ClaimNotInPod, $"the template's pod has no volume with claim {claim.Name} of disk {disk.Name}: add one");
        if (qemu.VolumeDevices?.Any(d => d.Name == volume && d.DevicePath == path) == true)
            return new PlannedDisk(disk, claim, path, null);
        V1VolumeMount mount = qemu.VolumeMounts?.Where(m => m.Name == volume && IsBelow(path, m.MountPath)).MaxBy(m => m.MountPath.Length)
            ?? throw Misfit(
                Reasons.PathNotOnClaim,
                $"container {qemu.Name} of the template does not mount claim {claim.Name} at {path}, the path of disk {disk.Name}: "
                    + "mount it there, or set path of the claim in spec.target.template.claims"
            );
        if (!string.IsNullOrEmpty(mount.SubPathExpr))
            throw Misfit(
                Reasons.PathNotOnClaim,
                $"claim {claim.Name} is mounted by subPathExpr, which a restore cannot resolve: use subPath"
            );
        if (Taken.FirstOrDefault(t => IsBelow(t, mount.MountPath) || IsBelow(mount.MountPath, t)) is { } taken)
            throw Misfit(
                Reasons.PathTaken,
                $"claim {claim.Name} is mounted at {mount.MountPath}, which conflicts with {taken} in the pod that writes the "
                    + $"disk: mount it elsewhere, for example at /disks/{disk.Name}"
            );
        return new PlannedDisk(disk, claim, path, mount);
    }

    private static V1Container ContainerOf(PodTemplate pod, V1PodSpec spec)
    {
        if (pod.Metadata.Annotations.TryGetValue(Names.ContainerAnnotation, out string? named))
            return spec.Containers.FirstOrDefault(c => c.Name == named)
                ?? throw TemplateCheck.Refuse(
                    Reasons.TemplateInvalid,
                    $"container {named}, which annotation {Names.ContainerAnnotation} names, does not exist",
                    "correct it"
                );
        return spec.Containers.Count == 1
            ? spec.Containers[0]
            : throw TemplateCheck.Refuse(
                Reasons.TemplateInvalid,
                $"the pod has {spec.Containers.Count} containers",
                $"name the one with QEMU in annotation {Names.ContainerAnnotation}"
            );
    }

    private static bool IsBelow(string path, string directory) =>
        path == directory.TrimEnd('/') || path.StartsWith(directory.TrimEnd('/') + "/", StringComparison.Ordinal);

    private static string Note(VMBackgroundSnapshot snapshot, string disk) =>
        snapshot.Status?.Disks?.Find(d => d.Name == disk)?.Note is { } note ? $" (it was not captured: {note})" : "";

    private static string Listed(List<DiskStatus> disks) => disks.Count == 0 ? "none" : string.Join(", ", disks.Select(d => d.Name));

    private static TerminalException Misfit(string reason, string message) => new(reason, message + ", then create another restore");
}
