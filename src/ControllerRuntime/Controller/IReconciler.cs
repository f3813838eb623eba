namespace Bgsnap.ControllerRuntime.Controller;

/// <summary>Brings one object of a kind to its desired state; called again until it is there.</summary>
public interface IReconciler
{
    /// <summary>Looks at one object and takes the next step.</summary>
    /// <param name="key">The object's key; the object may no longer exist.</param>
    /// <param name="stop">The program ends.</param>
    /// <returns>When to look again even if nothing changes; null: only after a change.</returns>
    Task<TimeSpan?> Reconcile(ObjectKey key, CancellationToken stop);
}
