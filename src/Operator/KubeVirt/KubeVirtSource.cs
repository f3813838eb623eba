using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>
/// Finds the VM of a KubeVirt source: the VirtualMachine, its VirtualMachineInstance, and the launcher pod that it runs in now.
/// </summary>
internal sealed class KubeVirtSource(IApiClient api)
{
    private readonly Objects _objects = new(api);

    /// <summary>Whether a snapshot's source is a KubeVirt VM.</summary>
    public static bool Is(VMBackgroundSnapshot snapshot) => snapshot.Spec.Source.ApiGroup == KubeVirtKinds.Group;

    /// <summary>Returns the VM and where it runs now.</summary>
    /// <exception cref="NotReadyException">The VM cannot be captured now, but may be later.</exception>
    /// <exception cref="TerminalException">The VM cannot be captured as it is, or KubeVirt is not installed.</exception>
    public async Task<SourceVm> Find(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        VirtualMachineInstance vmi = await FindInstance(snapshot, stop).ConfigureAwait(false);
        ResourceList<PodSummary> pods = await api.List(
                Resources.Pods,
                vmi.Metadata.NamespaceProperty,
                $"{LauncherPod.InstanceLabel}={vmi.Metadata.Uid}",
                stop
            )
            .ConfigureAwait(false);
        return LauncherPod.Of(vmi, pods.Items, snapshot.Spec.Capture).ToSource();
    }

    private async Task<VirtualMachineInstance> FindInstance(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        string ns = snapshot.Metadata.NamespaceProperty,
            name = snapshot.Spec.Source.Name,
            kind = snapshot.Spec.Source.Kind;
        try
        {
            RawObject? vm =
                kind != KubeVirtKinds.Machine
                    ? null
                    : await _objects.GetOrNull(KubeVirtKinds.Machines, ns, name, stop).ConfigureAwait(false)
                        ?? throw NotFound(kind, name, ns);
            VirtualMachineInstance? vmi = await _objects.GetOrNull(KubeVirtKinds.Instances, ns, name, stop).ConfigureAwait(false);
            if (vm is null)
                return vmi ?? throw NotFound(kind, name, ns);
            if (vm.Metadata.DeletionTimestamp is not null)
                throw new TerminalException(Reasons.SourceEnded, $"VirtualMachine {name} is being deleted");
            // KubeVirt may restart a VM that has ended, as its runStrategy says, with a new instance of the same name.
            if (vmi is null || vmi.Metadata.DeletionTimestamp is not null || vmi.Status?.Phase is "Succeeded" or "Failed")
                throw new NotReadyException(
                    Reasons.SourceNotRunning,
                    $"VirtualMachine {name} is not running ({vm.Status?["printableStatus"]?.ToString() ?? "no status"}): start it "
                        + $"(virtctl start {name}), or delete this snapshot"
                );
            if (vmi.Metadata.OwnerReferences?.Any(o => o.Uid == vm.Metadata.Uid) != true)
                throw new NotReadyException(
                    Reasons.SourceNotRunning,
                    $"VirtualMachineInstance {name} does not belong to VirtualMachine {name} and prevents it from starting: delete the "
                        + "instance, or name it as the source of another snapshot"
                );
            return vmi;
        }
        catch (ApiException e) when (e is { Code: 404, IsNotFound: false })
        {
            throw new TerminalException(
                Reasons.KubeVirtNotInstalled,
                $"this cluster does not serve {KubeVirtKinds.Group}/v1, so {kind} {name} cannot exist: install KubeVirt, or "
                    + "name a Pod as the source of another snapshot"
            );
        }
    }

    private static NotReadyException NotFound(string kind, string name, string ns) =>
        new(Reasons.SourceNotFound, $"{kind} {name} does not exist in namespace {ns}: create it, or delete this snapshot");
}
