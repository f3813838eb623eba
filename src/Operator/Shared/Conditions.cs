using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>Sets conditions as metav1.Condition requires: lastTransitionTime changes only when the status does.</summary>
internal static class Conditions
{
    /// <summary>Sets one condition.</summary>
    public static void Set(
        IConditionedStatus status,
        string type,
        bool value,
        string reason,
        string message,
        long generation,
        DateTimeOffset now
    )
    {
        status.Conditions ??= [];
        string text = value ? "True" : "False";
        V1Condition? old = status.Conditions.FirstOrDefault(c => c.Type == type);
        V1Condition next = new()
        {
            Type = type,
            Status = text,
            Reason = reason,
            Message = message.Length <= 32768 ? message : message[..32768],
            ObservedGeneration = generation,
            LastTransitionTime = old?.Status == text ? old.LastTransitionTime : WholeSecond(now),
        };
        if (old is null)
            status.Conditions.Add(next);
        else
            status.Conditions[status.Conditions.IndexOf(old)] = next;
    }

    /// <summary>Reads one condition.</summary>
    public static V1Condition? Get(IConditionedStatus? status, string type) => status?.Conditions?.FirstOrDefault(c => c.Type == type);

    /// <summary>
    /// Truncates to whole seconds: metav1.Time stores no fraction, and the value we read back must equal the one we wrote.
    /// </summary>
    public static DateTime WholeSecond(DateTimeOffset time) => DateTimeOffset.FromUnixTimeSeconds(time.ToUnixTimeSeconds()).UtcDateTime;
}
