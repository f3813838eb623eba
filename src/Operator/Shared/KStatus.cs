using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Operator.Shared;

/// <summary>
/// Sets an object's phase together with the three conditions that generic tools read (kstatus): Ready, Reconciling, Stalled.
/// </summary>
internal static class KStatus
{
    /// <summary>The object makes progress, or waits for something that may still appear.</summary>
    public static void Reconciling(
        IConditionedStatus status,
        long? generation,
        string phase,
        string reason,
        string message,
        DateTimeOffset now
    ) => Set(status, generation, phase, reason, now, (false, message), (true, message), (false, ""));

    /// <summary>The object has failed permanently.</summary>
    public static void Failed(
        IConditionedStatus status,
        long? generation,
        string phase,
        string reason,
        string message,
        DateTimeOffset now
    ) => Set(status, generation, phase, reason, now, (false, message), (false, ""), (true, message));

    /// <summary>The object has reached the state that its spec asks for.</summary>
    public static void Ready(
        IConditionedStatus status,
        long? generation,
        string phase,
        string reason,
        string message,
        DateTimeOffset now
    ) => Set(status, generation, phase, reason, now, (true, message), (false, ""), (false, ""));

    private static void Set(
        IConditionedStatus status,
        long? generation,
        string phase,
        string reason,
        DateTimeOffset now,
        (bool Value, string Message) ready,
        (bool Value, string Message) reconciling,
        (bool Value, string Message) stalled
    )
    {
        (status.Phase, status.ObservedGeneration) = (phase, generation ?? 0);
        Conditions.Set(status, ConditionTypes.Ready, ready.Value, reason, ready.Message, generation ?? 0, now);
        Conditions.Set(status, ConditionTypes.Reconciling, reconciling.Value, reason, reconciling.Message, generation ?? 0, now);
        Conditions.Set(status, ConditionTypes.Stalled, stalled.Value, reason, stalled.Message, generation ?? 0, now);
    }
}
