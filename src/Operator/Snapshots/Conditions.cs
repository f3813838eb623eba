using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Sets conditions as metav1.Condition wants it: the time changes with the status only.</summary>
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

    /// <summary>Kubernetes keeps whole seconds in metav1.Time; what is read back must equal what was written.</summary>
    public static DateTime WholeSecond(DateTimeOffset time) => DateTimeOffset.FromUnixTimeSeconds(time.ToUnixTimeSeconds()).UtcDateTime;
}
