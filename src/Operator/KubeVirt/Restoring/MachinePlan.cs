using System.Globalization;
using System.Text.Json.Nodes;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>The plan of a restore into KubeVirt. Pure: the same snapshot and spec give the same plan.</summary>
/// <param name="Disks">Each disk with its claim, and the spec of a stand-in pod for the VM's while an agent writes the disks.</param>
/// <param name="Vm">The VirtualMachine to create.</param>
/// <param name="MacAddresses">The MAC addresses that the VM keeps, in lower case.</param>
internal sealed record MachinePlan(RestorePlan Disks, RawObject Vm, IReadOnlyCollection<string> MacAddresses)
{
    /// <summary>KubeVirt's annotation that names hook sidecars.</summary>
    public const string HooksAnnotation = "hooks.kubevirt.io/hookSidecars";

    /// <summary>
    /// The runStrategy of a VM whose guest has not run yet: KubeVirt must not restart a failed one, because it would boot from disks that
    /// belong to the captured memory.
    /// </summary>
    public const string WhileRestored = "Once";

    /// <summary>Prefixes of annotations and labels that KubeVirt, kubectl and bgsnap set for the old object only.</summary>
    private static readonly string[] Foreign = ["kubevirt.io/", "kubectl.kubernetes.io/", "bgsnap.io/", "hooks.kubevirt.io/"];

    /// <summary>Computes the plan.</summary>
    /// <param name="restore">The restore.</param>
    /// <param name="snapshot">Its snapshot.</param>
    /// <param name="kept">What the snapshot stores of the VM.</param>
    /// <param name="models">By volume: the claim whose properties the new one copies.</param>
    /// <param name="options">Image and pull policy of the hook sidecar.</param>
    /// <exception cref="TerminalException">The snapshot cannot be restored into KubeVirt.</exception>
    public static MachinePlan Of(
        VMBackgroundRestore restore,
        VMBackgroundSnapshot snapshot,
        CapturedMachine kept,
        IReadOnlyDictionary<string, V1PersistentVolumeClaim> models,
        OperatorOptions options
    )
    {
        if (options.HookImage is not { } image)
            throw new TerminalException(
                Reasons.NoHookImage,
                "the operator was started without --hook-image, which restores into KubeVirt need: upgrade the chart, "
                    + "or restore into a pod"
            );
        KubeVirtTarget target = restore.Spec.Target.VirtualMachine!;
        // The instance's spec: it includes the effect of instance type, preference and defaults, and the hotplugged volumes.
        JsonObject spec = kept.Vmi["spec"]?.DeepClone() as JsonObject ?? [];
        IReadOnlyList<PlannedDisk> disks = MachineVolumes.Plan(restore, snapshot, spec, models);
        bool keep = target.MacAddresses != MacAddressPolicy.Regenerate;
        IReadOnlyDictionary<string, string> macs = kept.MacAddresses();
        GiveIdentity(spec, kept, keep, macs);
        return new MachinePlan(
            new RestorePlan(StandIn(spec), disks),
            Build(restore, kept, spec, image, options.PullPolicy),
            keep ? [.. macs.Values.Select(m => m.ToLowerInvariant())] : []
        );
    }

    private static void GiveIdentity(JsonObject spec, CapturedMachine kept, bool keep, IReadOnlyDictionary<string, string> macs)
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

    private static RawObject Build(VMBackgroundRestore restore, CapturedMachine kept, JsonObject spec, string image, string pullPolicy)
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

    // The VM's own sidecars come first, so that ours has the last word on the domain.
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

    // The VM ran when it was captured, so a strategy that would stop it cannot apply.
    private static string Strategy(JsonNode? vm) =>
        vm?["runStrategy"]?.ToString() switch
        {
            "Always" or "RerunOnFailure" or "Once" or "Manual" => vm["runStrategy"]!.ToString(),
            _ => vm?["running"]?.ToString() == "true" ? "Always" : "Manual",
        };

    // With the VM's node selector and memory, so that a WaitForFirstConsumer claim is bound where the VM fits.
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
