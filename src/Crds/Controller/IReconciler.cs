namespace Bgsnap.Crds.Controller;

/// <summary>Brings one object of a kind to what it should be; called again until it is.</summary>
public interface IReconciler
{
    /// <summary>Looks at one object and does what is to be done next.</summary>
    /// <param name="key">Which one; it may be gone by now.</param>
    /// <param name="stop">The program ends.</param>
    /// <returns>When to look again although nothing changed; null: only on a change.</returns>
    Task<TimeSpan?> Reconcile(ObjectKey key, CancellationToken stop);
}
