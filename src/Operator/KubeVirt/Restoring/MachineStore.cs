using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Restores;
using Bgsnap.Operator.Snapshots;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>KubeVirt's objects of a restore.</summary>
internal sealed class MachineStore(IApiClient api)
{
    private readonly Objects _objects = new(api);

    /// <summary>The VM of the target's name, or null.</summary>
    /// <exception cref="Hopeless">There is no KubeVirt.</exception>
    public async Task<RawObject?> Find(VMBackgroundRestore restore, CancellationToken stop)
    {
        try
        {
            return await _objects.GetOrNull(KubeVirtKinds.Machines, restore.Metadata.NamespaceProperty, restore.Spec.Target.VirtualMachine!.Name, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e is { Code: 404, IsNotFound: false })
        {
            throw new Hopeless("KubeVirtNotInstalled", $"this cluster does not serve {KubeVirtKinds.Group}/v1: install KubeVirt, or restore into a pod (spec.target.pod or template)");
        }
    }

    /// <summary>Makes the VM, or finds one of that name.</summary>
    /// <exception cref="Waiting">KubeVirt does not take it as it is configured.</exception>
    public async Task<RawObject> Make(RawObject vm, CancellationToken stop)
    {
        try
        {
            return await _objects.CreateOrGet(KubeVirtKinds.Machines, vm, stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.Message.Contains("sidecar feature gate", StringComparison.OrdinalIgnoreCase))
        {
            throw MachineSteps.SidecarsOff(e.Message);
        }
    }

    /// <summary>The instance of the target's name, or null.</summary>
    public Task<VirtualMachineInstance?> FindInstance(VMBackgroundRestore restore, CancellationToken stop) =>
        _objects.GetOrNull(KubeVirtKinds.Instances, restore.Metadata.NamespaceProperty, restore.Spec.Target.VirtualMachine!.Name, stop);

    /// <summary>The pod of an instance, or null.</summary>
    public async Task<PodSummary?> FindLauncher(VirtualMachineInstance vmi, CancellationToken stop) =>
        (await api.List(Resources.Pods, vmi.Metadata.NamespaceProperty, $"{LauncherPod.InstanceLabel}={vmi.Metadata.Uid}", stop).ConfigureAwait(false))
            .Items.FirstOrDefault(p => p.Metadata.DeletionTimestamp is null && p.Status?.Phase is not ("Succeeded" or "Failed"));

    /// <summary>
    /// Takes the hook out of the VM's template once its instance has it: another start of this VM is one from its disks, and waits for nothing.
    /// </summary>
    public async Task RemoveHook(RawObject vm, CancellationToken stop)
    {
        JsonObject? annotations = vm.Spec?["template"]?["metadata"]?["annotations"] as JsonObject;
        if (annotations?.ContainsKey(Names.CapturedDomainAnnotation) != true) return;
        JsonArray hooks = annotations[MachinePlan.HooksAnnotation]?.ToString() is { } text ? JsonNode.Parse(text) as JsonArray ?? [] : [];
        if (hooks.Count > 0) hooks.RemoveAt(hooks.Count - 1);
        await Patch(vm, new JsonObject
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
        }, stop).ConfigureAwait(false);
    }

    /// <summary>Gives the VM the runStrategy that it had when it was captured. Doing it again does nothing.</summary>
    public async Task Settle(VMBackgroundRestore restore, CancellationToken stop)
    {
        RawObject? vm = await Find(restore, stop).ConfigureAwait(false);
        if (vm is null || !RestoreNaming.IsOf(restore, vm.Metadata) || vm.Metadata.Annotations?.TryGetValue(Names.RunStrategyAnnotation, out string? strategy) != true) return;
        await Patch(vm, new JsonObject
        {
            ["metadata"] = new JsonObject { ["annotations"] = new JsonObject { [Names.RunStrategyAnnotation] = null } },
            ["spec"] = new JsonObject { ["runStrategy"] = strategy },
        }, stop).ConfigureAwait(false);
    }

    /// <summary>Removes the VM, if it was made for this restore; KubeVirt ends its instance.</summary>
    public async Task Discard(VMBackgroundRestore restore, CancellationToken stop)
    {
        RawObject? vm;
        try
        {
            vm = await Find(restore, stop).ConfigureAwait(false);
        }
        catch (Hopeless)
        {
            return;
        }
        if (vm is { Metadata.DeletionTimestamp: null } && RestoreNaming.IsOf(restore, vm.Metadata)) await _objects.DeleteIfThere(KubeVirtKinds.Machines, vm, null, stop).ConfigureAwait(false);
    }

    /// <summary>Waits while another VM of the namespace runs with one of these addresses: two would disturb each other's network.</summary>
    /// <exception cref="Waiting">One does.</exception>
    public async Task ThrowIfMacInUse(VMBackgroundRestore restore, IReadOnlyCollection<string> addresses, CancellationToken stop)
    {
        if (addresses.Count == 0) return;
        ResourceList<RawObject> running = await api.List(KubeVirtKinds.RawInstances, restore.Metadata.NamespaceProperty, null, stop).ConfigureAwait(false);
        foreach (RawObject vmi in running.Items.Where(v => v.Status?["phase"]?.ToString() is not ("Succeeded" or "Failed")))
        {
            if (MacsOf(vmi).FirstOrDefault(addresses.Contains) is { } mac)
                throw new Waiting("MacInUse", $"VirtualMachineInstance {vmi.Metadata.Name} runs with the MAC address {mac} of the captured one: stop it, or give the restored VM others with spec.target.virtualMachine.macAddresses Regenerate in another restore") { Again = TimeSpan.FromSeconds(15) };
        }
    }

    /// <summary>What KubeVirt says keeps a VM from starting; null: nothing.</summary>
    public static string? Failure(RawObject vm) => (vm.Status?["conditions"] as JsonArray)?.OfType<JsonObject>()
        .FirstOrDefault(c => c["type"]?.ToString() == "Failure" && c["status"]?.ToString() == "True")?["message"]?.ToString();

    private static IEnumerable<string> MacsOf(RawObject vmi) =>
        new[] { vmi.Status?["interfaces"] as JsonArray, vmi.Spec?["domain"]?["devices"]?["interfaces"] as JsonArray }
            .SelectMany(list => list ?? []).OfType<JsonObject>()
            .Select(i => (i["mac"] ?? i["macAddress"])?.ToString().ToLowerInvariant()).OfType<string>();

    private Task<RawObject> Patch(RawObject vm, JsonObject patch, CancellationToken stop) =>
        api.MergePatch(KubeVirtKinds.Machines, vm.Metadata.NamespaceProperty, vm.Metadata.Name, null, patch, stop);
}
