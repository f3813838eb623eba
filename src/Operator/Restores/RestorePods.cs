using System.Globalization;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>Builds a restore's pods: the writer of the disks' claims, the carrier of the snapshot's claim, and the VM's pod.</summary>
internal static class RestorePods
{
    /// <summary>
    /// The pod that mounts the snapshot's claim and every claim to write, each at the path where the VM will have it. It stands in for the
    /// VM: it requests the same resources and nodes, so that a WaitForFirstConsumer claim is bound where the VM fits.
    /// </summary>
    public static V1Pod Writer(VMBackgroundRestore restore, VMBackgroundSnapshot snapshot, RestorePlan plan, OperatorOptions options)
    {
        V1Pod pod = CarrierPod.Build(
            RestoreNaming.Made(restore, RestoreNaming.Carrier(restore, TaskAction.RestoreDisks), CarrierPod.Labels),
            options
        );
        CarrierPod.Mount(pod, snapshot.Status!.ClaimName!, Names.CarrierMountPath, readOnly: true);
        // Mount the claims made from VolumeSnapshots too, so that all are bound to one node.
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
    /// The pod that mounts the snapshot's claim on a node, so that an agent can load the RAM or read the stored description of the VM.
    /// </summary>
    /// <param name="restore">The restore.</param>
    /// <param name="snapshot">The restore's snapshot.</param>
    /// <param name="action">The action of the task that needs the pod.</param>
    /// <param name="node">The VM's node; null: any node.</param>
    /// <param name="options">The carrier's image and pull policy.</param>
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

    /// <summary>The VM's pod. It has no owner, because it outlives the restore.</summary>
    /// <param name="restore">The restore.</param>
    /// <param name="plan">The plan with the pod's spec.</param>
    /// <param name="node">
    /// The node where the claims were written, which the scheduler should prefer; it may choose another if the claims can follow. Null: no
    /// claims were written.
    /// </param>
    public static V1Pod Vm(VMBackgroundRestore restore, RestorePlan plan, string? node)
    {
        PodTemplateMetadata template = restore.Spec.Target.Template!.Pod.Metadata;
        // Labels of ours that the template copied from another pod would make this pod look like a helper.
        Dictionary<string, string> labels = (template.Labels ?? [])
            .Where(l =>
                !l.Key.StartsWith(Names.Group + "/", StringComparison.Ordinal)
                && !(l.Key == Names.ManagedByLabel && l.Value == Names.ManagedBy)
            )
            .ToDictionary(l => l.Key, l => l.Value);
        labels[Names.RestoreLabel] = restore.Metadata.Uid;
        V1PodSpec spec = plan.Spec;
        // A QEMU that restarts with -incoming waits forever: nothing is sent to it a second time.
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

    // The volumes are attached to this node; on another one they would have to be detached first.
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

    // The sum of what the VM's containers request, and at least what the carrier needs itself.
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
                // Kubernetes requires limits equal to requests for huge pages and devices.
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
