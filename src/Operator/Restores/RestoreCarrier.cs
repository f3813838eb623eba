using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.Restores;

/// <summary>What both tasks for an agent need first: a carrier that runs, and a slot on its node.</summary>
internal static class RestoreCarrier
{
    /// <summary>Returns when the carrier runs.</summary>
    /// <exception cref="NotReadyException">The pod does not run yet; the message says why.</exception>
    public static async Task Running(
        RestoreStore store,
        NodeQueue queue,
        ObjectKey key,
        PodSummary carrier,
        string claims,
        string? node,
        TimeProvider clock,
        CancellationToken stop
    )
    {
        CarrierReadiness readiness = CarrierReadiness.Of(carrier, claims, node);
        // Claims that cannot be mounted must not block other restores of this node.
        if (readiness.IsInTrouble)
            queue.Leave(key);
        if (readiness.State == CarrierState.Ended)
            await store.RemoveEnded(carrier, clock.GetUtcNow(), stop).ConfigureAwait(false);
        readiness.ThrowUnlessRunning();
    }

    /// <summary>Returns when the restore has a slot on the node.</summary>
    /// <exception cref="NotReadyException">The restore is queued.</exception>
    public static void Place(NodeQueue queue, OperatorOptions options, ObjectKey key, VMBackgroundRestore restore, string node)
    {
        int place = queue.Enter(node, key, restore.Metadata.CreationTimestamp ?? DateTime.MinValue);
        if (place > 0)
            throw new NotReadyException(
                Reasons.Queued,
                $"number {place} in the queue of node {node}, which restores {options.MaxConcurrentRestores} at a time"
            )
            {
                Phase = RestorePhase.Queued,
                Again = TimeSpan.FromMinutes(2),
            };
    }
}
