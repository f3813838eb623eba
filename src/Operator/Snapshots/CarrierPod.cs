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
    public static V1Pod Build(VMBackgroundSnapshot snapshot, string action, string claim, string? node, OperatorOptions options)
    {
        V1Pod pod = Build(Naming.Made(snapshot, Naming.Carrier(snapshot, action), Labels), options);
        // The scheduler places it, so that a claim that waits for its first consumer gets its volume there.
        if (node is not null)
            pod.Spec.Affinity = OnNode(node);
        Mount(pod, claim, Names.CarrierMountPath, readOnly: null);
        return pod;
    }

    /// <summary>A carrier without any claim yet; see <see cref="Mount"/>.</summary>
    /// <param name="metadata">Name, owner and labels, <see cref="Labels"/> among them.</param>
    /// <param name="options">Image.</param>
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
                        VolumeMounts = [],
                    },
                ],
                Volumes = [],
            },
        };

    /// <summary>Lets a carrier mount a claim.</summary>
    /// <param name="pod">The carrier.</param>
    /// <param name="claim">The claim.</param>
    /// <param name="path">Where to.</param>
    /// <param name="readOnly">True: only to be read.</param>
    /// <param name="subPath">A directory of the claim; null: all of it.</param>
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

    /// <summary>Gives a carrier a claim of mode Block as a device.</summary>
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

    /// <summary>On this node and no other.</summary>
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
