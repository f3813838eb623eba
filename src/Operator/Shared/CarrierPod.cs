using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>The pod that mounts a claim on a node and sleeps. It has no rights at all; the agent reaches the claim through it.</summary>
internal static class CarrierPod
{
    /// <summary>Builds the pod.</summary>
    /// <param name="snapshot">The snapshot that the pod serves.</param>
    /// <param name="action">Whether the pod serves the capture or the deletion of the files; see <see cref="TaskAction"/>.</param>
    /// <param name="claim">The claim.</param>
    /// <param name="node">The node; null: any node, as the scheduler chooses.</param>
    /// <param name="options">The carrier's image and pull policy.</param>
    public static V1Pod Build(VMBackgroundSnapshot snapshot, string action, string claim, string? node, OperatorOptions options)
    {
        V1Pod pod = Build(SnapshotNaming.Made(snapshot, SnapshotNaming.Carrier(snapshot, action), Labels), options);
        // The scheduler places the pod, so that a WaitForFirstConsumer claim gets its volume on that node.
        if (node is not null)
            pod.Spec.Affinity = OnNode(node);
        Mount(pod, claim, Names.CarrierMountPath, readOnly: null);
        return pod;
    }

    /// <summary>A carrier without any claim yet; see <see cref="Mount"/>.</summary>
    /// <param name="metadata">Name, owner and labels, <see cref="Labels"/> among them.</param>
    /// <param name="options">The carrier's image and pull policy.</param>
    public static V1Pod Build(V1ObjectMeta metadata, OperatorOptions options) =>
        new()
        {
            ApiVersion = "v1",
            Kind = "Pod",
            Metadata = metadata,
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
                // The VM runs on this node, so the claim must be mounted there even when the node is cordoned, drained or under pressure.
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
                        VolumeMounts = [],
                    },
                ],
                Volumes = [],
            },
        };

    /// <summary>Adds a mount of a claim to a carrier.</summary>
    /// <param name="pod">The carrier.</param>
    /// <param name="claim">The claim.</param>
    /// <param name="path">The path in the container.</param>
    /// <param name="readOnly">True: the mount is read-only.</param>
    /// <param name="subPath">A directory of the claim; null: the whole claim.</param>
    public static void Mount(V1Pod pod, string claim, string path, bool? readOnly, string? subPath = null) =>
        pod
            .Spec.Containers[0]
            .VolumeMounts.Add(
                new V1VolumeMount
                {
                    Name = Volume(pod, claim),
                    MountPath = path,
                    ReadOnlyProperty = readOnly,
                    SubPath = subPath,
                }
            );

    /// <summary>Adds a claim of volumeMode Block to a carrier, as a device.</summary>
    public static void Attach(V1Pod pod, string claim, string path) =>
        (pod.Spec.Containers[0].VolumeDevices ??= []).Add(new V1VolumeDevice { Name = Volume(pod, claim), DevicePath = path });

    /// <summary>Labels of every carrier.</summary>
    public static (string Key, string Value)[] Labels => [("app.kubernetes.io/name", "bgsnap"), ("app.kubernetes.io/component", "carrier")];

    private static string Volume(V1Pod pod, string claim)
    {
        string name = pod.Spec.Volumes.Count == 0 ? "snapshots" : $"disk-{pod.Spec.Volumes.Count - 1}";
        pod.Spec.Volumes.Add(
            new V1Volume
            {
                Name = name,
                PersistentVolumeClaim = new V1PersistentVolumeClaimVolumeSource { ClaimName = claim },
            }
        );
        return name;
    }

    /// <summary>An affinity that binds a pod to one node.</summary>
    public static V1Affinity OnNode(string node) =>
        new()
        {
            NodeAffinity = new V1NodeAffinity
            {
                RequiredDuringSchedulingIgnoredDuringExecution = new V1NodeSelector
                {
                    NodeSelectorTerms =
                    [
                        new V1NodeSelectorTerm
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
                    ],
                },
            },
        };
}
