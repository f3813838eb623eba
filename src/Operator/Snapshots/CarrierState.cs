using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Says what a carrier pod waits for.</summary>
internal static class CarrierState
{
    /// <summary>Reason while all goes well.</summary>
    public const string Starting = "CarrierStarting";

    /// <summary>Returns when the pod runs.</summary>
    /// <exception cref="Waiting">It does not run yet, and why.</exception>
    public static void ThrowUnlessRunning(PodSummary carrier, string claim, string? node)
    {
        if (carrier.RunningContainerId(Names.CarrierContainer) is not null) return;
        string where = node is null ? "" : $" on node {node}";
        PodConditionSummary? scheduled = carrier.Status?.Conditions?.FirstOrDefault(c => c.Type == "PodScheduled");
        if (scheduled is { Status: "False", Message: { Length: > 0 } why })
            throw Wait("CarrierUnschedulable", $"pod {carrier.Metadata.Name}, which brings claim {claim}{where}, cannot be scheduled: {why}");
        ContainerStateDetail? waiting = carrier.Status?.ContainerStatuses?.FirstOrDefault()?.State?.Waiting;
        if (waiting?.Reason is { } reason and not ("ContainerCreating" or "PodInitializing"))
            throw Wait("CarrierNotStarting", $"pod {carrier.Metadata.Name}, which brings claim {claim}{where}, does not start: {reason}: {waiting.Message}");
        throw Wait(Starting, $"claim {claim} is being brought{(node is null ? " to a node" : " to node " + node)}");
    }

    // The watch tells of changes; this only guards against a missed one.
    private static Waiting Wait(string reason, string message) => new(reason, message) { Phase = SnapshotPhase.Preparing, Again = TimeSpan.FromSeconds(15) };
}
