using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>The plan of a restore whose VM we create.</summary>
/// <param name="Spec">The spec of the VM's pod; for a KubeVirt VM a stand-in with what is known of it.</param>
/// <param name="Disks">Each disk with its claim.</param>
internal sealed record RestorePlan(V1PodSpec Spec, IReadOnlyList<PlannedDisk> Disks);
