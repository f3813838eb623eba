using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Shared;

/// <summary>How far a carrier pod has come.</summary>
internal enum CarrierState
{
    /// <summary>It runs: the claim is mounted.</summary>
    Running,

    /// <summary>It starts normally, or an earlier pod of its name is still terminating.</summary>
    Starting,

    /// <summary>It has ended and will not restart: evicted, or rejected by the kubelet.</summary>
    Ended,

    /// <summary>The scheduler finds no node for it.</summary>
    Unschedulable,

    /// <summary>Its container cannot start.</summary>
    NotStarting,
}

/// <summary>Whether a carrier pod runs, and if not, why.</summary>
/// <param name="State">How far it has come.</param>
/// <param name="Message">What it waits for; empty: it runs.</param>
internal sealed record CarrierReadiness(CarrierState State, string Message)
{
    /// <summary>The time until the next look. The watch reports changes; this only guards against a missed event.</summary>
    public static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(15);

    /// <summary>Whether the claim is mounted.</summary>
    public bool IsRunning => State == CarrierState.Running;

    /// <summary>Whether the pod may never run: then it must not block other snapshots or restores of its node.</summary>
    public bool IsInTrouble => State is not (CarrierState.Running or CarrierState.Starting);

    /// <summary>The condition's reason.</summary>
    public string Reason =>
        State switch
        {
            CarrierState.Ended => Reasons.CarrierEnded,
            CarrierState.Unschedulable => Reasons.CarrierUnschedulable,
            CarrierState.NotStarting => Reasons.CarrierNotStarting,
            _ => Reasons.CarrierStarting,
        };

    /// <summary>Reads the pod.</summary>
    /// <param name="carrier">The pod.</param>
    /// <param name="claim">The claims that it mounts, for messages.</param>
    /// <param name="node">The node, for messages; null: any node.</param>
    public static CarrierReadiness Of(PodSummary carrier, string claim, string? node)
    {
        string name = carrier.Metadata.Name,
            where = node is null ? "" : $" on node {node}",
            pod = $"pod {name}, which mounts claim {claim}{where},";
        // A terminating pod will soon release the claim; once it is gone, the next reconcile creates another.
        if (carrier.Metadata.DeletionTimestamp is not null)
            return new(CarrierState.Starting, $"mounting claim {claim}{where}: waiting for the earlier pod {name} to terminate");
        if (carrier.RunningContainerId(Names.CarrierContainer) is not null)
            return new(CarrierState.Running, "");
        if (carrier.Status?.Phase is "Failed" or "Succeeded")
            return new(CarrierState.Ended, $"{pod} has ended and is recreated: {carrier.Status.Message ?? carrier.Status.Phase}");
        PodConditionSummary? scheduled = carrier.Status?.Conditions?.FirstOrDefault(c => c.Type == "PodScheduled");
        if (scheduled is { Status: "False", Message: { Length: > 0 } why })
            return new(CarrierState.Unschedulable, $"{pod} cannot be scheduled: {why}");
        ContainerStateDetail? waiting = carrier.Status?.ContainerStatuses?.FirstOrDefault()?.State?.Waiting;
        if (waiting?.Reason is { } reason and not ("ContainerCreating" or "PodInitializing"))
            return new(CarrierState.NotStarting, $"{pod} does not start: {reason}: {waiting.Message}");
        return new(CarrierState.Starting, $"mounting claim {claim}{where}");
    }

    /// <summary>Returns if the pod runs.</summary>
    /// <exception cref="NotReadyException">The pod does not run yet; the message says why.</exception>
    public void ThrowUnlessRunning()
    {
        if (!IsRunning)
            throw new NotReadyException(Reason, Message) { Phase = SnapshotPhase.Preparing, Again = LookAgain };
    }
}
