using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>A disk of the snapshot, its claim, and where the template's container has that claim.</summary>
/// <param name="Disk">The disk.</param>
/// <param name="Claim">The claim.</param>
/// <param name="Path">Path of its file or device in the container.</param>
/// <param name="Mount">Where the container mounts the claim; null: the claim is a device at <paramref name="Path"/>.</param>
internal sealed record PlannedDisk(DiskStatus Disk, RestoreClaim Claim, string Path, V1VolumeMount? Mount)
{
    /// <summary>Whether an agent fills the claim from the snapshot's files; otherwise it is made from a VolumeSnapshot.</summary>
    public bool IsWritten => Disk.VolumeSnapshotName is null;

    /// <summary>The format with which QEMU will open it.</summary>
    public string Driver { get; init; } = Disk.Driver ?? "raw";
}

/// <summary>The plan of a restore with a template. Pure: the same snapshot and template give the same plan.</summary>
/// <param name="Spec">The spec of the VM's pod; for a KubeVirt VM a stand-in with what is known of it.</param>
/// <param name="Disks">Each disk with its claim.</param>
internal sealed record TemplatePlan(V1PodSpec Spec, IReadOnlyList<PlannedDisk> Disks)
{
    // Paths that a carrier uses itself.
    private static readonly string[] Taken = [Names.CarrierMountPath, "/usr/bin", "/proc", "/sys", "/dev"];

    /// <summary>Makes the plan.</summary>
    /// <exception cref="Hopeless">Template and snapshot do not fit; the message names the remedy.</exception>
    public static TemplatePlan Of(VMBackgroundRestore restore, VMBackgroundSnapshot snapshot)
    {
        VirtualMachineTemplate template = restore.Spec.Target.Template!;
        V1PodSpec spec = TemplateCheck.Read(template.Pod.Spec);
        V1Container qemu = ContainerOf(template.Pod, spec);
        List<RestoreClaim> claims = template.Claims ?? [];
        List<DiskStatus> disks = [.. (snapshot.Status?.Disks ?? []).Where(d => d.StoredBytes > 0 || d.VolumeSnapshotName is not null)];
        if (disks.Find(d => !claims.Exists(c => c.Disk == d.Name)) is { } missing)
            throw Misfit(
                "DiskWithoutClaim",
                $"disk {missing.Name} of snapshot {snapshot.Metadata.Name} has no claim: add one to spec.target.template.claims"
            );
        if (claims.Find(c => !disks.Exists(d => d.Name == c.Disk)) is { } extra)
            throw Misfit(
                "NoSuchDisk",
                $"snapshot {snapshot.Metadata.Name} holds no disk {extra.Disk}{Note(snapshot, extra.Disk)}; it holds "
                    + $"{Listed(disks)}: correct spec.target.template.claims"
            );
        return new TemplatePlan(spec, [.. claims.Select(c => Plan(disks.Find(d => d.Name == c.Disk)!, c, spec, qemu))]);
    }

    private static PlannedDisk Plan(DiskStatus disk, RestoreClaim claim, V1PodSpec spec, V1Container qemu)
    {
        string path = claim.Path
            ?? disk.Path
            ?? throw Misfit(
                "PathUnknown",
                $"the snapshot does not say which file disk {disk.Name} was: set path of its claim in spec.target.template.claims"
            );
        if (!path.StartsWith('/') || path.Split('/').Any(part => part is ".." or "."))
            throw Misfit(
                "PathUnknown",
                $"disk {disk.Name}: '{path}' is no absolute path without '..': set path of its claim in spec.target.template.claims"
            );
        if (disk.Driver is not ("raw" or "qcow2"))
            throw Misfit(
                "DriverUnknown",
                $"disk {disk.Name} is of format {disk.Driver ?? "unknown"}, and only raw and qcow2 can be written: restore it into "
                    + "a pod of your own (spec.target.pod)"
            );
        string? volume = spec.Volumes?.FirstOrDefault(v => v.PersistentVolumeClaim?.ClaimName == claim.Name)?.Name;
        if (volume is null)
            throw Misfit("ClaimNotInPod", $"no volume of the template's pod is claim {claim.Name}, which is for disk {disk.Name}: add one");
        if (qemu.VolumeDevices?.Any(d => d.Name == volume && d.DevicePath == path) == true)
            return new PlannedDisk(disk, claim, path, null);
        V1VolumeMount mount = qemu.VolumeMounts?.Where(m => m.Name == volume && IsBelow(path, m.MountPath)).MaxBy(m => m.MountPath.Length)
            ?? throw Misfit(
                "PathNotOnClaim",
                $"container {qemu.Name} of the template does not have claim {claim.Name} at {path}, where disk {disk.Name} is: "
                    + "mount it there, or set path of the claim in spec.target.template.claims"
            );
        if (!string.IsNullOrEmpty(mount.SubPathExpr))
            throw Misfit("PathNotOnClaim", $"claim {claim.Name} is mounted by subPathExpr, which a restore cannot follow: use subPath");
        if (Taken.FirstOrDefault(t => IsBelow(t, mount.MountPath) || IsBelow(mount.MountPath, t)) is { } taken)
            throw Misfit(
                "PathTaken",
                $"claim {claim.Name} is mounted at {mount.MountPath}, and {taken} is needed by what writes the disk: mount it "
                    + $"elsewhere, such as at /disks/{disk.Name}"
            );
        return new PlannedDisk(disk, claim, path, mount);
    }

    private static V1Container ContainerOf(PodTemplate pod, V1PodSpec spec)
    {
        if (pod.Metadata.Annotations.TryGetValue(Names.ContainerAnnotation, out string? named))
            return spec.Containers.FirstOrDefault(c => c.Name == named)
                ?? throw TemplateCheck.Refuse(
                    "TemplateInvalid",
                    $"there is no container {named}, which annotation {Names.ContainerAnnotation} names",
                    "correct it"
                );
        return spec.Containers.Count == 1
            ? spec.Containers[0]
            : throw TemplateCheck.Refuse(
                "TemplateInvalid",
                $"there are {spec.Containers.Count} containers",
                $"name the one with QEMU in annotation {Names.ContainerAnnotation}"
            );
    }

    private static bool IsBelow(string path, string directory) =>
        path == directory.TrimEnd('/') || path.StartsWith(directory.TrimEnd('/') + "/", StringComparison.Ordinal);

    private static string Note(VMBackgroundSnapshot snapshot, string disk) =>
        snapshot.Status?.Disks?.Find(d => d.Name == disk)?.Note is { } note ? $" (it was not captured: {note})" : "";

    private static string Listed(List<DiskStatus> disks) => disks.Count == 0 ? "none" : string.Join(", ", disks.Select(d => d.Name));

    private static Hopeless Misfit(string reason, string message) => new(reason, message + ", then create another restore");
}
