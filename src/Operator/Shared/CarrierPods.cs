using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Operator.Kube;
using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>Makes and removes carrier pods.</summary>
internal sealed class CarrierPods(IApiClient api, Informer<PodSummary> carriers)
{
    private readonly Objects _objects = new(api);

    /// <summary>Returns the carrier pod; creates it if it does not exist. It may be an earlier pod that is still terminating.</summary>
    /// <param name="key">Namespace and name.</param>
    /// <param name="build">Builds the pod.</param>
    /// <param name="stop">The program ends.</param>
    public async Task<PodSummary> FindOrMake(ObjectKey key, Func<V1Pod> build, CancellationToken stop)
    {
        PodSummary? known = carriers.Find(key);
        if (known is not null && known.Metadata.DeletionTimestamp is null)
            return known;
        try
        {
            await api.Create(CoreResources.Pods, build(), stop).ConfigureAwait(false);
        }
        catch (ApiException e) when (e.IsAlreadyExists)
        {
            // We created it before a crash, or our copy is stale.
        }
        PodSummary made = await api.Get(Resources.Pods, key.Namespace, key.Name, stop).ConfigureAwait(false);
        if (made.Metadata.DeletionTimestamp is null)
            carriers.Learn(made);
        return made;
    }

    /// <summary>
    /// Removes a carrier that has ended, so that another is created. A carrier younger than 15 s stays for now: otherwise creation and
    /// removal would follow each other without pause.
    /// </summary>
    public async Task RemoveEnded(PodSummary carrier, DateTimeOffset now, CancellationToken stop)
    {
        if (now - (carrier.Metadata.CreationTimestamp ?? DateTime.MinValue) >= TimeSpan.FromSeconds(15))
            await _objects.DeleteIfThere(Resources.Pods, carrier, null, stop).ConfigureAwait(false);
    }

    /// <summary>Removes a carrier, if it exists.</summary>
    /// <returns>Whether the carrier is gone.</returns>
    public async Task<bool> Remove(ObjectKey key, CancellationToken stop)
    {
        if (carriers.Find(key) is not { } carrier)
            return true;
        if (carrier.Metadata.DeletionTimestamp is null)
            await _objects.DeleteIfThere(Resources.Pods, carrier, 1, stop).ConfigureAwait(false);
        return false;
    }
}
