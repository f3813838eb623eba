namespace Bgsnap.Operator.Shared;

/// <summary>The machine of a VM whose QEMU is reached through libvirt, as far as its Kubernetes objects describe it.</summary>
/// <param name="Domain">Name of the libvirt domain.</param>
/// <param name="Uuid">The domain's UUID; null: unknown.</param>
/// <param name="Memory">The guest's memory, as a Kubernetes quantity; null: unknown.</param>
/// <param name="Claims">The claims of its disks.</param>
/// <param name="OtherBytes">Total bytes of the disks that are not on a claim.</param>
internal sealed record LibvirtMachine(string Domain, string? Uuid, string? Memory, IEnumerable<string> Claims, long OtherBytes);
