using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Operator.Shared;

/// <summary>Something that a step needs is missing and may still appear; the snapshot or restore waits until its deadline.</summary>
/// <param name="reason">The condition's reason, in CamelCase.</param>
/// <param name="message">The condition's message.</param>
internal sealed class NotReadyException(string reason, string message) : Exception(message)
{
    /// <summary>The condition's reason, in CamelCase.</summary>
    public string Reason => reason;

    /// <summary>The phase while waiting.</summary>
    public string Phase { get; init; } = SnapshotPhase.Pending;

    /// <summary>The time until the next reconcile.</summary>
    public TimeSpan Again { get; init; } = TimeSpan.FromSeconds(5);
}
