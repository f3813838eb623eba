using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>Reads and writes the KubeVirt objects of a restore.</summary>
internal sealed class MachineStore(IApiClient api)
{
    private readonly Objects _objects = new(api);
    private readonly PutBack _putBack = new(api);

    /// <summary>The VM of the target's name, or null.</summary>
    /// <exception cref="TerminalException">KubeVirt is not installed.</exception>
    public async Task<RawObject?> Find(VMBackgroundRestore restore, CancellationToken stop)
    {
        try
        {
            return await Read(restore, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (IsNotInstalled(e))
        {
            throw new TerminalException(
                Reasons.KubeVirtNotInstalled,
                $"this cluster does not serve {KubeVirtKinds.Group}/v1: install KubeVirt, or restore into a pod (spec.target.pod "
                    + "or template)"
            );
        }
    }

    /// <summary>Creates the VM, or returns the existing one of that name.</summary>
    /// <exception cref="NotReadyException">KubeVirt's configuration rejects the hook sidecar.</exception>
    public async Task<RawObject> Make(RawObject vm, CancellationToken stop)
    {
        try
        {
            return await _objects.CreateOrGet(KubeVirtKinds.Machines, vm, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (SidecarGate.IsOff(e.Message))
        {
            throw SidecarGate.Wait(e.Message);
        }
    }

    /// <summary>Halts the VM, so that KubeVirt ends its instance.</summary>
    public Task Halt(VMBackgroundRestore restore, RawObject vm, CancellationToken stop) => _putBack.Stop(vm, restore, stop);

    /// <summary>Replaces the spec of a stopped VM by the captured one.</summary>
    /// <exception cref="TerminalException">
    /// The API server rejects the spec. We do not wait: an existing VM must not stay stopped until KubeVirt is configured.
    /// </exception>
    public async Task<RawObject> TakeOver(VMBackgroundRestore restore, RawObject vm, RawObject captured, CancellationToken stop)
    {
        try
        {
            return await _putBack.TakeOver(vm, restore, captured, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (SidecarGate.IsOff(e.Message))
        {
            throw SidecarGate.Fail(e.Message);
        }
        catch (ApiException e) when (e.IsInvalid)
        {
            throw new TerminalException(
                Reasons.RefusedByApiServer,
                $"the API server rejected the restored spec of VirtualMachine {vm.Metadata.Name}: {e.Message}"
            );
        }
    }

    /// <summary>
    /// The claims whose properties the new ones copy, by volume: the new claim itself once it exists, or else the captured VM's claim if
    /// that still exists.
    /// </summary>
    public async Task<IReadOnlyDictionary<string, V1PersistentVolumeClaim>> Models(
        VMBackgroundRestore restore,
        CapturedMachine kept,
        CancellationToken stop
    )
    {
        string ns = restore.Metadata.NamespaceProperty;
        Dictionary<string, V1PersistentVolumeClaim> models = [];
        foreach ((string volume, string claim) in kept.Claims())
        {
            V1PersistentVolumeClaim? made = await _objects
                .GetOrNull(CoreResources.Claims, ns, MachineVolumes.ClaimName(restore, volume), stop)
                .ConfigureAwait(false);
            if (made is null || !RestoreNaming.IsOf(restore, made.Metadata))
                made = await _objects.GetOrNull(CoreResources.Claims, ns, claim, stop).ConfigureAwait(false);
            if (made is not null)
                models[volume] = made;
        }
        return models;
    }

    /// <summary>The instance of the target's name, or null.</summary>
    public Task<VirtualMachineInstance?> FindInstance(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.GetOrNull(KubeVirtKinds.Instances, restore.Metadata.NamespaceProperty, restore.Spec.Target.VirtualMachine!.Name, stop);

    /// <summary>The pod that a restored VM has migrated to; null: it has not migrated.</summary>
    /// <param name="restore">The restore.</param>
    /// <param name="from">Uid of the pod that the VM was restored in.</param>
    /// <param name="stop">The program ends.</param>
    public async Task<PodSummary?> FindMigrated(VMBackgroundRestore restore, string? from, CancellationToken stop)
    {
        VirtualMachineInstance? vmi = await FindInstance(restore, stop).ConfigureAwait(false);
        if (
            vmi?.Status is not { Phase: "Running", MigrationState.Completed: true, NodeName: { Length: > 0 } node }
            || !RestoreNaming.IsOf(restore, vmi.Metadata)
        )
            return null;
        return (await Launchers(vmi, stop).ConfigureAwait(false)).FirstOrDefault(p =>
            p.Metadata.Uid != from && p.Spec?.NodeName == node && vmi.Status.ActivePods?.ContainsKey(p.Metadata.Uid) == true
        );
    }

    /// <summary>The pod of an instance, or null.</summary>
    public async Task<PodSummary?> FindLauncher(VirtualMachineInstance vmi, CancellationToken stop) =>
        (await Launchers(vmi, stop).ConfigureAwait(false)).FirstOrDefault();

    private async Task<IEnumerable<PodSummary>> Launchers(VirtualMachineInstance vmi, CancellationToken stop) =>
        (
            await api.List(Resources.Pods, vmi.Metadata.NamespaceProperty, $"{LauncherPod.InstanceLabel}={vmi.Metadata.Uid}", stop)
                .ConfigureAwait(false)
        ).Items.Where(p => p.Metadata.DeletionTimestamp is null && p.Status?.Phase is not ("Succeeded" or "Failed"));

    /// <summary>
    /// Removes the hook from the VM's template once the instance has it: the next start of this VM boots from its disks and waits for
    /// nothing.
    /// </summary>
    public async Task RemoveHook(RawObject vm, CancellationToken stop)
    {
        JsonObject? annotations = vm.Spec?["template"]?["metadata"]?["annotations"] as JsonObject;
        if (annotations?.ContainsKey(Names.CapturedDomainAnnotation) != true)
            return;
        JsonArray hooks = annotations[MachinePlan.HooksAnnotation]?.ToString() is { } text ? JsonNode.Parse(text) as JsonArray ?? [] : [];
        if (hooks.Count > 0)
            hooks.RemoveAt(hooks.Count - 1);
        await Patch(
                vm,
                new JsonObject
                {
                    ["spec"] = new JsonObject
                    {
                        ["template"] = new JsonObject
                        {
                            ["metadata"] = new JsonObject
                            {
                                ["annotations"] = new JsonObject
                                {
                                    [Names.CapturedDomainAnnotation] = null,
                                    [MachinePlan.HooksAnnotation] = hooks.Count > 0 ? hooks.ToJsonString() : null,
                                },
                                ["labels"] = new JsonObject { [Names.RestoreLabel] = null },
                            },
                        },
                    },
                },
                stop
            )
            .ConfigureAwait(false);
    }

    /// <summary>Gives the VM the runStrategy that it had when it was captured. Idempotent.</summary>
    public async Task Settle(VMBackgroundRestore restore, CancellationToken stop)
    {
        RawObject? vm = await Find(restore, stop).ConfigureAwait(false);
        if (
            vm is null
            || !RestoreNaming.IsOf(restore, vm.Metadata)
            || vm.Metadata.Annotations?.TryGetValue(Names.RunStrategyAnnotation, out string? strategy) != true
        )
            return;
        await Patch(
                vm,
                new JsonObject
                {
                    ["metadata"] = new JsonObject
                    {
                        ["annotations"] = new JsonObject { [Names.RunStrategyAnnotation] = null, [Names.BeforeAnnotation] = null },
                    },
                    ["spec"] = new JsonObject { ["runStrategy"] = strategy },
                },
                stop
            )
            .ConfigureAwait(false);
    }

    /// <summary>
    /// Removes the VM if it was created for this restore; KubeVirt ends its instance. A VM that was being put back gets its former spec.
    /// </summary>
    /// <returns>Whether it is done.</returns>
    public async Task<bool> Discard(VMBackgroundRestore restore, CancellationToken stop)
    {
        RawObject? vm;
        try
        {
            vm = await Read(restore, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (IsNotInstalled(e))
        {
            return true;
        }
        if (vm is null)
            return true;
        if (PutBack.Before(vm, restore) is not null)
            return await _putBack
                .Undo(vm, restore, await FindInstance(restore, stop).ConfigureAwait(false) is not null, stop)
                .ConfigureAwait(false);
        // A VM that has its own runStrategy back belongs to the user.
        if (
            vm.Metadata.DeletionTimestamp is null
            && RestoreNaming.IsOf(restore, vm.Metadata)
            && vm.Metadata.Annotations?.ContainsKey(Names.RunStrategyAnnotation) == true
        )
            await _objects.DeleteIfThere(KubeVirtKinds.Machines, vm, null, stop).ConfigureAwait(false);
        return true;
    }

    /// <summary>
    /// Throws while another VM of the namespace runs with one of these MAC addresses: two VMs with the same address would disturb each
    /// other's network.
    /// </summary>
    /// <exception cref="NotReadyException">Another VM uses an address.</exception>
    public async Task ThrowIfMacInUse(VMBackgroundRestore restore, IReadOnlyCollection<string> addresses, CancellationToken stop)
    {
        if (addresses.Count == 0)
            return;
        ResourceList<RawObject> running = await api.List(KubeVirtKinds.RawInstances, restore.Metadata.NamespaceProperty, null, stop)
            .ConfigureAwait(false);
        // The instance of the VM that is being put back ends before its successor runs.
        string? own = PutBack.IsWanted(restore) ? restore.Spec.Target.VirtualMachine!.Name : null;
        foreach (
            RawObject vmi in running.Items.Where(v =>
                v.Metadata.Name != own && v.Status?["phase"]?.ToString() is not ("Succeeded" or "Failed")
            )
        )
        {
            if (MacsOf(vmi).FirstOrDefault(addresses.Contains) is { } mac)
                throw new NotReadyException(
                    Reasons.MacInUse,
                    $"VirtualMachineInstance {vmi.Metadata.Name} is running with MAC address {mac}, which the restored VM "
                        + "would use too: stop it, or set spec.target.virtualMachine.macAddresses to Regenerate in another restore"
                )
                {
                    Again = TimeSpan.FromSeconds(15),
                };
        }
    }

    /// <summary>KubeVirt's message why a VM does not start, or null.</summary>
    public static string? Failure(RawObject vm) =>
        (vm.Status?["conditions"] as JsonArray)
            ?.OfType<JsonObject>()
            .FirstOrDefault(c => c["type"]?.ToString() == "Failure" && c["status"]?.ToString() == "True")
            ?["message"]?.ToString();

    private static IEnumerable<string> MacsOf(RawObject vmi) =>
        new[] { vmi.Status?["interfaces"] as JsonArray, vmi.Spec?["domain"]?["devices"]?["interfaces"] as JsonArray }
            .SelectMany(list => list ?? [])
            .OfType<JsonObject>()
            .Select(i => (i["mac"] ?? i["macAddress"])?.ToString().ToLowerInvariant())
            .OfType<string>();

    private Task<RawObject?> Read(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.GetOrNull(KubeVirtKinds.Machines, restore.Metadata.NamespaceProperty, restore.Spec.Target.VirtualMachine!.Name, stop);

    // The cluster does not serve the kind at all.
    private static bool IsNotInstalled(ApiException e) => e is { Code: 404, IsNotFound: false };

    private Task<RawObject> Patch(RawObject vm, JsonObject patch, CancellationToken stop) =>
        api.MergePatch(KubeVirtKinds.Machines, vm.Metadata.NamespaceProperty, vm.Metadata.Name, null, patch, stop);
}
