using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Says what a carrier pod waits for.</summary>
internal static class CarrierState
{
    /// <summary>Reason while the carrier starts normally.</summary>
    public const string Starting = "CarrierStarting";

    /// <summary>Reason of a pod that has ended and will not restart: evicted, or rejected by the kubelet.</summary>
    public const string Ended = "CarrierEnded";

    /// <summary>Returns when the pod runs.</summary>
    /// <exception cref="Waiting">The pod does not run yet; the message says why.</exception>
    public static void ThrowUnlessRunning(PodSummary carrier, string claim, string? node)
    {
        if (Hindrance(carrier, claim, node) is { } wait)
            throw wait;
    }

    /// <summary>Why the pod does not run yet; null: it runs.</summary>
    public static Waiting? Hindrance(PodSummary carrier, string claim, string? node)
    {
        if (carrier.RunningContainerId(Names.CarrierContainer) is not null)
            return null;
        string where = node is null ? "" : $" on node {node}";
        if (carrier.Status?.Phase is "Failed" or "Succeeded")
            return Wait(
                Ended,
                $"pod {carrier.Metadata.Name}, which brings claim {claim}{where}, has ended and is made again: "
                    + $"{carrier.Status.Message ?? carrier.Status.Phase}"
            );
        PodConditionSummary? scheduled = carrier.Status?.Conditions?.FirstOrDefault(c => c.Type == "PodScheduled");
        if (scheduled is { Status: "False", Message: { Length: > 0 } why })
            return Wait(
                "CarrierUnschedulable",
                $"pod {carrier.Metadata.Name}, which brings claim {claim}{where}, cannot be scheduled: {why}"
            );
        ContainerStateDetail? waiting = carrier.Status?.ContainerStatuses?.FirstOrDefault()?.State?.Waiting;
        if (waiting?.Reason is { } reason and not ("ContainerCreating" or "PodInitializing"))
            return Wait(
                "CarrierNotStarting",
                $"pod {carrier.Metadata.Name}, which brings claim {claim}{where}, does not start: {reason}: {waiting.Message}"
            );
        return Wait(Starting, $"claim {claim} is being brought{(node is null ? " to a node" : " to node " + node)}");
    }

    /// <summary>Builds the exception. The watch reports changes; the 15 s only guard against a missed event.</summary>
    public static Waiting Wait(string reason, string message) =>
        new(reason, message) { Phase = SnapshotPhase.Preparing, Again = TimeSpan.FromSeconds(15) };
}
