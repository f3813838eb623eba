using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>
/// The objects that a VM is made of, kept with its snapshot so that it can be made anew: VirtualMachine, VirtualMachineInstance, and the
/// instance type and preference that it was made with.
/// </summary>
internal sealed class MachineObjects(IApiClient api)
{
    private readonly Objects _objects = new(api);

    /// <summary>A v1 List as JSON text.</summary>
    /// <exception cref="Hopeless">They are too large to be kept.</exception>
    public async Task<string> Read(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        string ns = snapshot.Metadata.NamespaceProperty,
            name = snapshot.Spec.Source.Name;
        RawObject? vm =
            snapshot.Spec.Source.Kind == KubeVirtKinds.Machine
                ? await _objects.GetOrNull(KubeVirtKinds.Machines, ns, name, stop).ConfigureAwait(false)
                : null;
        RawObject? vmi = await _objects.GetOrNull(KubeVirtKinds.RawInstances, ns, name, stop).ConfigureAwait(false);
        RawObject?[] objects =
        [
            vm,
            vmi,
            await Template(vm, "instancetype", "VirtualMachineClusterInstancetype", stop).ConfigureAwait(false),
            await Template(vm, "preference", "VirtualMachineClusterPreference", stop).ConfigureAwait(false),
        ];
        JsonObject list = new()
        {
            ["apiVersion"] = "v1",
            ["kind"] = "List",
            ["items"] = new JsonArray([.. objects.OfType<RawObject>().Select(Kept)]),
        };
        string text = list.ToJsonString();
        return text.Length <= VirtualMachineTarget.MaxObjectsLength
            ? text
            : throw new Hopeless(
                "SourceTooLarge",
                $"{snapshot.Spec.Source.Kind} {name} and what belongs to it have {text.Length} characters, more than the "
                    + $"{VirtualMachineTarget.MaxObjectsLength} that a snapshot keeps: move data such as cloudInit's userData to a "
                    + "Secret, then create another snapshot"
            );
    }

    // KubeVirt copies what a VM was made with to a ControllerRevision, lest a later change change the VM. One that is gone is no hindrance:
    // the instance's spec has what came of it.
    private async Task<RawObject?> Template(RawObject? vm, string field, string kindOtherwise, CancellationToken stop)
    {
        if (vm?.Spec?[field] is not JsonObject matcher || Text(matcher["name"]) is not { } name)
            return null;
        string ns = vm.Metadata.NamespaceProperty;
        if ((Text(matcher["revisionName"]) ?? Text(vm.Status?[field + "Ref"]?["controllerRevisionRef"]?["name"])) is { } revision)
            return await _objects.GetOrNull(KubeVirtKinds.Revisions, ns, revision, stop).ConfigureAwait(false);
        if (KubeVirtKinds.Template(Text(matcher["kind"]) ?? kindOtherwise) is not { } kind)
            return null;
        return await _objects.GetOrNull(kind.Type, kind.Clustered ? null! : ns, name, stop).ConfigureAwait(false);
    }

    private static string? Text(JsonNode? node) =>
        node is JsonValue value && value.TryGetValue(out string? text) && text.Length > 0 ? text : null;

    // What says who wrote which field is of no use to anybody later, and is as large as the rest.
    private static JsonNode Kept(RawObject item)
    {
        item.Metadata.ManagedFields = null;
        item.Status = null;
        return JsonSerializer.SerializeToNode(item, KubeVirtKinds.Machines.Json)!;
    }
}
