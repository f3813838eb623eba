using System.Globalization;
using System.Text.Json.Nodes;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Restores;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>What a restore into KubeVirt comes down to. Pure: the same of the same snapshot and spec.</summary>
/// <param name="Disks">Each disk with its claim, and the pod that stands in for the VM's while they are written.</param>
/// <param name="Vm">The VirtualMachine to make.</param>
/// <param name="MacAddresses">MAC addresses that it keeps, in lower case.</param>
internal sealed record MachinePlan(TemplatePlan Disks, RawObject Vm, IReadOnlyCollection<string> MacAddresses)
{
    /// <summary>KubeVirt's annotation that names hook sidecars.</summary>
    public const string HooksAnnotation = "hooks.kubevirt.io/hookSidecars";

    /// <summary>
    /// The runStrategy of a VM whose guest has not run yet: what fails is not started anew, from disks that belong to a memory.
    /// </summary>
    public const string WhileRestored = "Once";

    /// <summary>Annotations and labels by which KubeVirt, kubectl and we note what is of the old object alone.</summary>
    private static readonly string[] Foreign = ["kubevirt.io/", "kubectl.kubernetes.io/", "bgsnap.io/", "hooks.kubevirt.io/"];

    /// <summary>Makes the plan.</summary>
    /// <param name="restore">The restore.</param>
    /// <param name="snapshot">Its snapshot.</param>
    /// <param name="kept">What that keeps of the VM.</param>
    /// <param name="models">By volume: a claim that the new one is to be like.</param>
    /// <param name="options">The hook's image.</param>
    /// <exception cref="Hopeless">It cannot be restored into KubeVirt.</exception>
    public static MachinePlan Of(
        VMBackgroundRestore restore,
        VMBackgroundSnapshot snapshot,
        KeptMachine kept,
        IReadOnlyDictionary<string, V1PersistentVolumeClaim> models,
        OperatorOptions options
    )
    {
        if (options.HookImage is not { } image)
            throw new Hopeless(
                "NoHookImage",
                "the operator was started without --hook-image, so that no VM can be restored into KubeVirt: upgrade the chart, "
                    + "or restore into a pod"
            );
        KubeVirtTarget target = restore.Spec.Target.VirtualMachine!;
        // The instance's: it has all that instance type, preference and defaults came to, and volumes that were plugged later.
        JsonObject spec = kept.Vmi["spec"]?.DeepClone() as JsonObject ?? [];
        IReadOnlyList<PlannedDisk> disks = MachineVolumes.Plan(restore, snapshot, spec, models);
        bool keep = target.MacAddresses != MacAddressPolicy.Regenerate;
        IReadOnlyDictionary<string, string> macs = kept.MacAddresses();
        GiveIdentity(spec, kept, keep, macs);
        return new MachinePlan(
            new TemplatePlan(StandIn(spec), disks),
            Build(restore, kept, spec, image, options.PullPolicy),
            keep ? [.. macs.Values.Select(m => m.ToLowerInvariant())] : []
        );
    }

    private static void GiveIdentity(JsonObject spec, KeptMachine kept, bool keep, IReadOnlyDictionary<string, string> macs)
    {
        JsonObject domain = Child(spec, "domain");
        if (kept.MachineType is { } type)
            Child(domain, "machine")["type"] = type;
        JsonObject firmware = Child(domain, "firmware");
        if (!keep)
        {
            firmware.Remove("uuid");
            firmware.Remove("serial");
        }
        foreach (JsonObject i in (domain["devices"]?["interfaces"] as JsonArray ?? []).OfType<JsonObject>())
        {
            if (keep && macs.TryGetValue(i["name"]?.ToString() ?? "", out string? mac))
                i["macAddress"] = mac;
            else if (!keep)
                i.Remove("macAddress");
        }
    }

    private static RawObject Build(VMBackgroundRestore restore, KeptMachine kept, JsonObject spec, string image, string pullPolicy)
    {
        JsonNode? source = kept.Vm?["spec"]?["template"] ?? kept.Vmi;
        JsonObject labels = Kept(source["metadata"]?["labels"]),
            annotations = Kept(source["metadata"]?["annotations"]);
        labels[Names.RestoreLabel] = restore.Metadata.Uid;
        annotations[Names.CapturedDomainAnnotation] = kept.DomainXml;
        annotations[HooksAnnotation] = Hooks(source["metadata"]?["annotations"]?[HooksAnnotation]?.ToString(), image, pullPolicy);
        JsonNode? vm = kept.Vm?["metadata"];
        Dictionary<string, string> ours = Texts(Kept(vm?["labels"])),
            notes = Texts(Kept(vm?["annotations"]));
        ours[Names.RestoreLabel] = restore.Metadata.Uid;
        notes[Names.RunStrategyAnnotation] = Strategy(kept.Vm?["spec"]);
        return new RawObject
        {
            ApiVersion = KubeVirtKinds.Group + "/v1",
            Kind = KubeVirtKinds.Machine,
            Metadata = new V1ObjectMeta
            {
                Name = restore.Spec.Target.VirtualMachine!.Name,
                NamespaceProperty = restore.Metadata.NamespaceProperty,
                Labels = ours,
                Annotations = notes,
            },
            Spec = new JsonObject
            {
                ["runStrategy"] = WhileRestored,
                ["template"] = new JsonObject
                {
                    ["metadata"] = new JsonObject { ["labels"] = labels, ["annotations"] = annotations },
                    ["spec"] = spec,
                },
            },
        };
    }

    // The VM's own sidecars first: ours has the last word on the domain.
    private static string Hooks(string? own, string image, string pullPolicy)
    {
        JsonArray list = own is null ? [] : JsonNode.Parse(own) as JsonArray ?? [];
        list.Add(
            new JsonObject
            {
                ["image"] = image,
                ["imagePullPolicy"] = pullPolicy,
                ["args"] = new JsonArray("kubevirt-hook"),
            }
        );
        return list.ToJsonString();
    }

    // It ran when it was captured: a strategy that would stop it is none that it goes on with.
    private static string Strategy(JsonNode? vm) =>
        vm?["runStrategy"]?.ToString() switch
        {
            "Always" or "RerunOnFailure" or "Once" or "Manual" => vm["runStrategy"]!.ToString(),
            _ => vm?["running"]?.ToString() == "true" ? "Always" : "Manual",
        };

    // Nodes that the VM may run on, and its memory: a claim that is bound where it is first used is bound where the VM fits.
    private static V1PodSpec StandIn(JsonObject spec)
    {
        string? memory = spec["domain"]?["memory"]?["guest"]?.ToString()
            ?? spec["domain"]?["resources"]?["requests"]?["memory"]?.ToString();
        return new V1PodSpec
        {
            NodeSelector = spec["nodeSelector"] is JsonObject nodes ? Texts(nodes) : null,
            Containers =
            [
                new V1Container
                {
                    Name = LauncherPod.Container,
                    Resources = memory is null
                        ? null
                        : new V1ResourceRequirements { Requests = new Dictionary<string, ResourceQuantity> { ["memory"] = new(memory) } },
                },
            ],
        };
    }

    private static JsonObject Kept(JsonNode? map)
    {
        JsonObject kept = [];
        foreach ((string key, JsonNode? value) in map as JsonObject ?? [])
            if (!Array.Exists(Foreign, f => key.StartsWith(f, StringComparison.Ordinal)))
                kept[key] = value?.DeepClone();
        return kept;
    }

    private static Dictionary<string, string> Texts(JsonObject map) =>
        map.ToDictionary(p => p.Key, p => Convert.ToString(p.Value, CultureInfo.InvariantCulture) ?? "");

    private static JsonObject Child(JsonObject parent, string name)
    {
        if (parent[name] is JsonObject there)
            return there;
        JsonObject made = [];
        parent[name] = made;
        return made;
    }
}
