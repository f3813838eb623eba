using System.Text;
using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Restores;
using Bgsnap.Operator.Snapshots;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>
/// A VM that is there becomes the captured one, and again what it was should its guest not come to run. What it was is kept on itself,
/// written in the same request as the first change to it, so that no crash and no deleted restore can lose it.
/// </summary>
/// <remarks>
/// <code>
///   as its user has it ──Stop──▶ halted, spec kept ──TakeOver──▶ the captured one, ours ──Settle──▶ its user's
///                                     └────────────◀──── Undo (halted first, until its instance is gone) ────┘
/// </code>
/// Each request names the version that was looked at: whoever starts, stops or changes the VM in between is not overruled.
/// </remarks>
internal sealed class PutBack(IApiClient api)
{
    // All annotations of an object together have at most 256 KiB.
    private const int LargestSpec = 192 * 1024;

    /// <summary>Strategies by which KubeVirt starts an instance where there is none.</summary>
    private static readonly string[] Starting = ["Always", "RerunOnFailure", "Once"];

    /// <summary>Whether a VM that is there is to be put back.</summary>
    public static bool IsWanted(VMBackgroundRestore restore) =>
        restore.Spec.Target.VirtualMachine?.WhenExists is ExistingMachine.PutBack or ExistingMachine.StopAndPutBack;

    /// <summary>
    /// The spec that the VM had before this restore changed it; null: it did not, or has given it back, or its guest runs.
    /// </summary>
    public static JsonObject? Before(RawObject vm, VMBackgroundRestore restore) =>
        Kept(vm) is { } kept && kept["restore"]?.ToString() == restore.Metadata.Uid ? kept["spec"] as JsonObject : null;

    /// <summary>Throws while another restore has changed the VM.</summary>
    /// <exception cref="Waiting">One has.</exception>
    public static void ThrowIfOthers(RawObject vm, VMBackgroundRestore restore)
    {
        if (Kept(vm) is { } kept && kept["restore"]?.ToString() != restore.Metadata.Uid)
            throw new Waiting(
                "VirtualMachineInUse",
                $"VirtualMachine {vm.Metadata.Name} is being put back by another restore, {kept["name"]}"
            )
            {
                Again = TimeSpan.FromSeconds(5),
            };
    }

    /// <summary>Whether KubeVirt runs the VM, or is about to.</summary>
    public static bool Runs(RawObject vm, VirtualMachineInstance? vmi) =>
        vmi is null
            ? vm.Spec?["running"]?.ToString() == "true" || Starting.Contains(vm.Spec?["runStrategy"]?.ToString())
            : vmi.Status?.Phase is not ("Succeeded" or "Failed");

    /// <summary>Stops the VM. Doing it again does nothing.</summary>
    public Task<RawObject> Stop(RawObject vm, VMBackgroundRestore restore, CancellationToken stop)
    {
        JsonObject spec = Halted(vm);
        return spec.Count == 0 ? Task.FromResult(vm) : Patch(vm, [], Noted(vm, restore), spec, stop);
    }

    /// <summary>Makes a VM that is stopped the captured one.</summary>
    /// <param name="vm">The VM.</param>
    /// <param name="restore">For which restore.</param>
    /// <param name="captured">What it is to be.</param>
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

    /// <summary>Makes the VM again what it was.</summary>
    /// <param name="vm">The VM, changed by this restore.</param>
    /// <param name="restore">The restore, which did not come to a guest that runs.</param>
    /// <param name="instanceIsThere">Whether it has an instance.</param>
    /// <param name="stop">The program ends.</param>
    /// <returns>Whether it is; else its instance ends first.</returns>
    public async Task<bool> Undo(RawObject vm, VMBackgroundRestore restore, bool instanceIsThere, CancellationToken stop)
    {
        // An instance of ours waits for a memory that does not come: the VM does not get its own strategy with it.
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
        // The older of two fields; KubeVirt takes only one of them.
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
            throw new Hopeless(
                "VirtualMachineTooLarge",
                $"the spec of VirtualMachine {vm.Metadata.Name} is larger than {LargestSpec / 1024} KiB, so that it cannot be kept "
                    + "on it while it is put back: move its userData to a Secret, or delete the VM, then create another restore"
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
            // Not ours, or changed by hand: what cannot be read cannot be given back either.
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
