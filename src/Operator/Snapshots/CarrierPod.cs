using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Snapshots;

/// <summary>
/// The pod that brings a claim to a node: it mounts it and sleeps. It has no rights whatever; the agent reaches the claim through it.
/// </summary>
internal static class CarrierPod
{
    /// <summary>Builds the pod.</summary>
    /// <param name="snapshot">For which snapshot.</param>
    /// <param name="action">For capturing, or for deleting the files.</param>
    /// <param name="claim">The claim.</param>
    /// <param name="node">The node, or null: where the scheduler likes.</param>
    /// <param name="options">Image.</param>
    public static V1Pod Build(VMBackgroundSnapshot snapshot, string action, string claim, string? node, OperatorOptions options) => new()
    {
        ApiVersion = "v1",
        Kind = "Pod",
        Metadata = Naming.Made(snapshot, Naming.Carrier(snapshot, action), ("app.kubernetes.io/name", "bgsnap"), ("app.kubernetes.io/component", "carrier")),
        Spec = new V1PodSpec
        {
            AutomountServiceAccountToken = false,
            EnableServiceLinks = false,
            RestartPolicy = "Always",
            TerminationGracePeriodSeconds = 2,
            SecurityContext = new V1PodSecurityContext
            {
                RunAsNonRoot = true,
                RunAsUser = 65532,
                RunAsGroup = 65532,
                SeccompProfile = new V1SeccompProfile { Type = "RuntimeDefault" },
            },
            // The scheduler places it, so that a claim that waits for its first consumer gets its volume there.
            Affinity = node is null ? null : OnNode(node),
            // The VM runs there, so the claim must get there: also on a node that is cordoned, drained or under pressure.
            Tolerations = [new V1Toleration { OperatorProperty = "Exists" }],
            Containers =
            [
                new V1Container
                {
                    Name = Names.CarrierContainer,
                    Image = options.AgentImage,
                    ImagePullPolicy = options.PullPolicy,
                    Args = ["carry"],
                    Resources = new V1ResourceRequirements
                    {
                        Requests = new Dictionary<string, ResourceQuantity> { ["cpu"] = new("1m"), ["memory"] = new("16Mi") },
                        Limits = new Dictionary<string, ResourceQuantity> { ["memory"] = new("64Mi") },
                    },
                    SecurityContext = new V1SecurityContext
                    {
                        AllowPrivilegeEscalation = false,
                        ReadOnlyRootFilesystem = true,
                        Capabilities = new V1Capabilities { Drop = ["ALL"] },
                    },
                    VolumeMounts = [new V1VolumeMount { Name = "snapshots", MountPath = Names.CarrierMountPath }],
                },
            ],
            Volumes = [new V1Volume { Name = "snapshots", PersistentVolumeClaim = new V1PersistentVolumeClaimVolumeSource { ClaimName = claim } }],
        },
    };

    private static V1Affinity OnNode(string node) => new()
    {
        NodeAffinity = new V1NodeAffinity
        {
            RequiredDuringSchedulingIgnoredDuringExecution = new V1NodeSelector
            {
                NodeSelectorTerms =
                [
                    new V1NodeSelectorTerm
                    {
                        MatchFields = [new V1NodeSelectorRequirement { Key = "metadata.name", OperatorProperty = "In", Values = [node] }],
                    },
                ],
            },
        },
    };
}
