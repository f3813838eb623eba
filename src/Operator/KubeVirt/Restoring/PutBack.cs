using System.Text;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>
/// Turns an existing VM into the captured one, and back into what it was if its guest does not come to run. An annotation on the VM stores
/// its former spec. The request that makes the first change also writes that annotation, so no crash and no deletion of the restore can
/// lose it.
/// </summary>
/// <remarks>
/// <code>
///   as its user has it ──Stop──▶ halted, spec kept ──TakeOver──▶ the captured one, ours ──Settle──▶ its user's
///                                     └────────────◀──── Undo (halted first, until its instance is gone) ────┘
/// </code>
/// Each request names the resourceVersion that we read, so that we never overrule somebody who starts, stops or changes the VM in between.
/// </remarks>
internal sealed class PutBack(IApiClient api)
{
    // Kubernetes limits all annotations of an object together to 256 KiB.
    private const int LargestSpec = 192 * 1024;

    /// <summary>Strategies with which KubeVirt starts an instance if none exists.</summary>
    private static readonly string[] Starting = ["Always", "RerunOnFailure", "Once"];

    /// <summary>Whether the restore may change an existing VM.</summary>
    public static bool IsWanted(VMBackgroundRestore restore) =>
        restore.Spec.Target.VirtualMachine?.WhenExists is ExistingMachine.PutBack or ExistingMachine.StopAndPutBack;

    /// <summary>
    /// The spec that the VM had before this restore changed it; null: the restore did not change it, has undone the change, or the guest
    /// runs.
    /// </summary>
    public static JsonObject? Before(RawObject vm, VMBackgroundRestore restore) =>
        Kept(vm) is { } kept && kept["restore"]?.ToString() == restore.Metadata.Uid ? kept["spec"] as JsonObject : null;

    /// <summary>Throws while another restore has changed the VM.</summary>
    /// <exception cref="NotReadyException">Another restore has changed the VM.</exception>
    public static void ThrowIfOthers(RawObject vm, VMBackgroundRestore restore)
    {
        if (Kept(vm) is { } kept && kept["restore"]?.ToString() != restore.Metadata.Uid)
            throw new NotReadyException(
                Reasons.VirtualMachineInUse,
                $"VirtualMachine {vm.Metadata.Name} is in use by another restore, {kept["name"]}"
            )
            {
                Again = TimeSpan.FromSeconds(5),
            };
    }

    /// <summary>Whether KubeVirt runs the VM or is about to.</summary>
    public static bool Runs(RawObject vm, VirtualMachineInstance? vmi) =>
        vmi is null
            ? vm.Spec?["running"]?.ToString() == "true" || Starting.Contains(vm.Spec?["runStrategy"]?.ToString())
            : vmi.Status?.Phase is not ("Succeeded" or "Failed");

    /// <summary>Stops the VM. Idempotent.</summary>
    public Task<RawObject> Stop(RawObject vm, VMBackgroundRestore restore, CancellationToken stop)
    {
        JsonObject spec = Halted(vm);
        return spec.Count == 0 ? Task.FromResult(vm) : Patch(vm, [], Noted(vm, restore), spec, stop);
    }

    /// <summary>Replaces the spec of a stopped VM by the captured one.</summary>
    /// <param name="vm">The VM.</param>
    /// <param name="restore">The restore.</param>
    /// <param name="captured">The captured VM.</param>
    /// <param name="stop">The program ends.</param>
    public Task<RawObject> TakeOver(RawObject vm, VMBackgroundRestore restore, RawObject captured, CancellationToken stop)
    {
        JsonObject annotations = Noted(vm, restore);
        annotations[Names.RunStrategyAnnotation] = captured.Metadata.Annotations[Names.RunStrategyAnnotation];
        return Patch(
            vm,
            new JsonObject { [Names.RestoreLabel] = restore.Metadata.Uid },
            annotations,
            MergePatches.Difference(vm.Spec ?? [], captured.Spec!),
            stop
        );
    }

    /// <summary>Gives the VM its former spec back.</summary>
    /// <param name="vm">The VM that this restore changed.</param>
    /// <param name="restore">The restore, whose guest did not come to run.</param>
    /// <param name="instanceIsThere">Whether the VM has an instance.</param>
    /// <param name="stop">The program ends.</param>
    /// <returns>True: done. False: the instance must end first; call again.</returns>
    public async Task<bool> Undo(RawObject vm, VMBackgroundRestore restore, bool instanceIsThere, CancellationToken stop)
    {
        // Our instance waits for memory that never arrives. It must end before the VM gets its own runStrategy back.
        if (RestoreNaming.IsOf(restore, vm.Metadata) && instanceIsThere)
        {
            if (Halted(vm) is { Count: > 0 } halted)
                await Patch(vm, [], [], halted, stop).ConfigureAwait(false);
            return false;
        }
        JsonObject labels = RestoreNaming.IsOf(restore, vm.Metadata) ? new JsonObject { [Names.RestoreLabel] = null } : [];
        JsonObject annotations = new() { [Names.BeforeAnnotation] = null, [Names.RunStrategyAnnotation] = null };
        await Patch(vm, labels, annotations, MergePatches.Difference(vm.Spec ?? [], Before(vm, restore)!), stop).ConfigureAwait(false);
        return true;
    }

    private static JsonObject Halted(RawObject vm)
    {
        // running is the older of two fields; KubeVirt accepts only one of them.
        if (vm.Spec?.ContainsKey("running") == true)
            return vm.Spec["running"]?.ToString() == "false" ? [] : new JsonObject { ["running"] = false };
        return vm.Spec?["runStrategy"]?.ToString() == "Halted" ? [] : new JsonObject { ["runStrategy"] = "Halted" };
    }

    private static JsonObject Noted(RawObject vm, VMBackgroundRestore restore)
    {
        if (Before(vm, restore) is not null)
            return [];
        string kept = new JsonObject
        {
            ["restore"] = restore.Metadata.Uid,
            ["name"] = restore.Metadata.Name,
            ["spec"] = vm.Spec?.DeepClone(),
        }.ToJsonString();
        if (Encoding.UTF8.GetByteCount(kept) > LargestSpec)
            throw new TerminalException(
                Reasons.VirtualMachineTooLarge,
                $"the spec of VirtualMachine {vm.Metadata.Name} is larger than {LargestSpec / 1024} KiB, the most that can be "
                    + "kept in its annotation during the restore: move its userData to a Secret, or delete the VM, then "
                    + "create another restore"
            );
        return new JsonObject { [Names.BeforeAnnotation] = kept };
    }

    private static JsonObject? Kept(RawObject vm)
    {
        if (vm.Metadata.Annotations?.TryGetValue(Names.BeforeAnnotation, out string? text) != true)
            return null;
        try
        {
            return JsonNode.Parse(text!) as JsonObject;
        }
        catch (System.Text.Json.JsonException)
        {
            // Not ours, or edited by hand: we cannot restore what we cannot read.
            return null;
        }
    }

    private Task<RawObject> Patch(RawObject vm, JsonObject labels, JsonObject annotations, JsonObject spec, CancellationToken stop) =>
        api.MergePatch(
            KubeVirtKinds.Machines,
            vm.Metadata.NamespaceProperty,
            vm.Metadata.Name,
            null,
            new JsonObject
            {
                ["metadata"] = new JsonObject
                {
                    ["resourceVersion"] = vm.Metadata.ResourceVersion,
                    ["labels"] = labels,
                    ["annotations"] = annotations,
                },
                ["spec"] = spec,
            },
            stop
        );
}
