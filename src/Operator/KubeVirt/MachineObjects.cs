using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt;

/// <summary>
/// The objects that define a VM, stored with its snapshot so that a restore can recreate the VM: VirtualMachine, VirtualMachineInstance,
/// and the instance type and preference that it was created with.
/// </summary>
internal sealed class MachineObjects(IApiClient api)
{
    private readonly Objects _objects = new(api);

    /// <summary>Reads them and returns a v1 List as JSON text.</summary>
    /// <exception cref="TerminalException">They are too large to be stored.</exception>
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
            : throw new TerminalException(
                Reasons.SourceTooLarge,
                $"the description of {snapshot.Spec.Source.Kind} {name} has {text.Length} characters, more than the "
                    + $"{VirtualMachineTarget.MaxObjectsLength} that a snapshot can store: move data such as cloudInit's "
                    + "userData to a "
                    + "Secret, then create another snapshot"
            );
    }

    // KubeVirt copies the instance type and preference of a VM to a ControllerRevision, so that later changes to them do not affect the VM.
    // A missing one does no harm: the instance's spec holds the result.
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

    // managedFields are of no use later, and are as large as the rest.
    private static JsonNode Kept(RawObject item)
    {
        item.Metadata.ManagedFields = null;
        item.Status = null;
        return JsonSerializer.SerializeToNode(item, KubeVirtKinds.Machines.Json)!;
    }
}
