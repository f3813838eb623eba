using System.Text;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Executes a Describe task: the operator, which restores KubeVirt VMs, cannot read the claim, but needs the VM's objects and domain XML
/// from the snapshot.
/// </summary>
internal static class StoredMachine
{
    /// <summary>Reads the VM's objects and domain XML from the snapshot.</summary>
    /// <exception cref="TaskFailure">The snapshot has none, or cannot be read.</exception>
    internal static SnapshotTaskStatus Describe(SafeFileHandle claim, string directory)
    {
        using SafeFileHandle place = RestoreWork.OpenSnapshot(claim, directory);
        try
        {
            using SnapshotDirectory snapshot = SnapshotDirectory.Open(OpenInRoot.PathOf(place));
            if (snapshot.ReadObjects() is not { } objects || snapshot.ReadDomainXml() is not { } xml)
                throw new TaskFailure(
                    Reasons.NotOfKubeVirt,
                    $"snapshot {directory} was not taken of a KubeVirt VM: restore it into a pod (spec.target.pod or template)"
                );
            if (xml.Length > MachineDescription.MaxXmlLength)
                throw new TaskFailure(
                    Reasons.DomainTooLarge,
                    $"the domain XML of snapshot {directory} has {xml.Length} bytes, more than {MachineDescription.MaxXmlLength}"
                );
            return new SnapshotTaskStatus
            {
                Phase = TaskPhase.Succeeded,
                Percent = 100,
                Machine = new MachineDescription { Objects = Encoding.UTF8.GetString(objects), DomainXml = Encoding.UTF8.GetString(xml) },
            };
        }
        catch (Exception e) when (e is SnapshotCorruptException or LinuxException)
        {
            throw new TaskFailure(Reasons.SnapshotUnreadable, $"{directory}: {e.Message}");
        }
    }
}
