using System.Globalization;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Snapshots;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>
/// Builds a restore's pods: the one that writes the disks' claims, the one that brings the snapshot to the VM, and the VM's.
/// </summary>
internal static class RestorePods
{
    /// <summary>
    /// The pod that has the snapshot's claim and every claim that is written, each where the VM will have it. It stands in for the VM:
    /// it asks for the same resources and nodes, so that claims which are bound to where they were first used are bound where the VM
    /// fits.
    /// </summary>
    public static V1Pod Writer(VMBackgroundRestore restore, VMBackgroundSnapshot snapshot, TemplatePlan plan, OperatorOptions options)
    {
        V1Pod pod = CarrierPod.Build(
            RestoreNaming.Made(restore, RestoreNaming.Carrier(restore, TaskAction.RestoreDisks), CarrierPod.Labels),
            options
        );
        CarrierPod.Mount(pod, snapshot.Status!.ClaimName!, Names.CarrierMountPath, readOnly: true);
        // Those made from VolumeSnapshots too, so that all are bound to one node.
        foreach (PlannedDisk disk in plan.Disks)
        {
            if (disk.Mount is { } mount)
                CarrierPod.Mount(pod, disk.Claim.Name, mount.MountPath, readOnly: null, mount.SubPath);
            else
                CarrierPod.Attach(pod, disk.Claim.Name, disk.Path);
        }
        V1PodSpec vm = plan.Spec;
        (pod.Spec.NodeSelector, pod.Spec.Affinity, pod.Spec.Tolerations) = (vm.NodeSelector, vm.Affinity, vm.Tolerations);
        (pod.Spec.SchedulerName, pod.Spec.PriorityClassName) = (vm.SchedulerName, vm.PriorityClassName);
        Reserve(pod.Spec.Containers[0].Resources, vm);
        return pod;
    }

    /// <summary>
    /// The pod that brings the snapshot's claim to a node, for its RAM to be loaded or what it keeps of its VM to be read.
    /// </summary>
    /// <param name="restore">For which restore.</param>
    /// <param name="snapshot">Its snapshot.</param>
    /// <param name="action">For which of its tasks.</param>
    /// <param name="node">The VM's node; null: any.</param>
    /// <param name="options">Image.</param>
    public static V1Pod Carrier(
        VMBackgroundRestore restore,
        VMBackgroundSnapshot snapshot,
        string action,
        string? node,
        OperatorOptions options
    )
    {
        V1Pod pod = CarrierPod.Build(RestoreNaming.Made(restore, RestoreNaming.Carrier(restore, action), CarrierPod.Labels), options);
        if (node is not null)
            pod.Spec.Affinity = CarrierPod.OnNode(node);
        CarrierPod.Mount(pod, snapshot.Status!.ClaimName!, Names.CarrierMountPath, readOnly: true);
        return pod;
    }

    /// <summary>The VM's pod. It has no owner: it outlives the restore.</summary>
    /// <param name="restore">For which restore.</param>
    /// <param name="plan">Its spec.</param>
    /// <param name="node">Where its claims were written; it may go elsewhere if they can follow. Null: nowhere yet.</param>
    public static V1Pod Vm(VMBackgroundRestore restore, TemplatePlan plan, string? node)
    {
        PodTemplateMetadata template = restore.Spec.Target.Template!.Pod.Metadata;
        // Labels of ours that the template took over from another pod would make it look like a helper.
        Dictionary<string, string> labels = (template.Labels ?? [])
            .Where(l =>
                !l.Key.StartsWith(Names.Group + "/", StringComparison.Ordinal)
                && !(l.Key == Names.ManagedByLabel && l.Value == Names.ManagedBy)
            )
            .ToDictionary(l => l.Key, l => l.Value);
        labels[Names.RestoreLabel] = restore.Metadata.Uid;
        V1PodSpec spec = plan.Spec;
        // A QEMU that is started again with -incoming waits for ever, since nothing comes a second time.
        spec.RestartPolicy ??= "Never";
        if (node is not null)
            Prefer(spec, node);
        return new V1Pod
        {
            ApiVersion = "v1",
            Kind = "Pod",
            Metadata = new V1ObjectMeta
            {
                Name = RestoreNaming.Pod(restore),
                NamespaceProperty = restore.Metadata.NamespaceProperty,
                Labels = labels,
                Annotations = template.Annotations,
            },
            Spec = spec,
        };
    }

    // The volumes are there already; elsewhere they would have to be detached first.
    private static void Prefer(V1PodSpec spec, string node)
    {
        V1NodeAffinity nodes = (spec.Affinity ??= new V1Affinity()).NodeAffinity ??= new V1NodeAffinity();
        nodes.PreferredDuringSchedulingIgnoredDuringExecution =
        [
            .. nodes.PreferredDuringSchedulingIgnoredDuringExecution ?? [],
            new V1PreferredSchedulingTerm
            {
                Weight = 100,
                Preference = new V1NodeSelectorTerm
                {
                    MatchFields =
                    [
                        new V1NodeSelectorRequirement
                        {
                            Key = "metadata.name",
                            OperatorProperty = "In",
                            Values = [node],
                        },
                    ],
                },
            },
        ];
    }

    // What the VM's containers ask for together, and no less than the carrier needs itself.
    private static void Reserve(V1ResourceRequirements mine, V1PodSpec vm)
    {
        foreach (V1ResourceRequirements r in vm.Containers.Select(c => c.Resources).OfType<V1ResourceRequirements>())
        {
            IEnumerable<string> names = (r.Requests?.Keys ?? []).Union(r.Limits?.Keys ?? []);
            foreach (string name in names)
            {
                ResourceQuantity asked = r.Requests?.TryGetValue(name, out ResourceQuantity? request) == true ? request! : r.Limits![name];
                decimal sum = asked.ToDecimal() + (mine.Requests.TryGetValue(name, out ResourceQuantity? before) ? before!.ToDecimal() : 0);
                mine.Requests[name] = Quantity(name, sum);
                // Huge pages and devices are given as they are limited.
                if (name.Contains('/', StringComparison.Ordinal) || name.StartsWith("hugepages-", StringComparison.Ordinal))
                    mine.Limits[name] = mine.Requests[name];
            }
        }
        if (mine.Requests["memory"].ToDecimal() > mine.Limits["memory"].ToDecimal())
            mine.Limits["memory"] = mine.Requests["memory"];
    }

    private static ResourceQuantity Quantity(string name, decimal value) =>
        new(
            name == "cpu"
                ? string.Create(CultureInfo.InvariantCulture, $"{Math.Ceiling(value * 1000):0}m")
                : string.Create(CultureInfo.InvariantCulture, $"{Math.Ceiling(value):0}")
        );
}
