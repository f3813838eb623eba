using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Operator.Kube;
using k8s.Models;

namespace Bgsnap.Operator.Snapshots;

/// <summary>Makes and removes carrier pods.</summary>
internal sealed class CarrierPods(IApiClient api, Informer<PodSummary> carriers)
{
    private readonly Objects _objects = new(api);

    /// <summary>The carrier pod, made when it is not there.</summary>
    /// <param name="key">Namespace and name.</param>
    /// <param name="build">Builds it.</param>
    /// <param name="claim">What it brings, for people.</param>
    /// <param name="node">Where to, for people; null: anywhere.</param>
    /// <param name="stop">The program ends.</param>
    /// <exception cref="Waiting">An earlier one is still ending.</exception>
    public async Task<PodSummary> FindOrMake(ObjectKey key, Func<V1Pod> build, string claim, string? node, CancellationToken stop)
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
            // Made before a crash, or our copy is behind.
        }
        PodSummary made = await api.Get(Resources.Pods, key.Namespace, key.Name, stop).ConfigureAwait(false);
        // One that is going away cannot hold the claim for long; when it is gone another is made.
        if (made.Metadata.DeletionTimestamp is not null)
            throw CarrierState.Wait(
                CarrierState.Starting,
                $"claim {claim} is being brought{(node is null ? " to a node" : " to node " + node)}: pod {key.Name} of an earlier "
                    + "try is ending"
            );
        carriers.Learn(made);
        return made;
    }

    /// <summary>
    /// Removes a carrier that has ended, so that another is made; not at once after its creation, lest that go on without pause.
    /// </summary>
    public async Task RemoveEnded(PodSummary carrier, DateTimeOffset now, CancellationToken stop)
    {
        if (now - (carrier.Metadata.CreationTimestamp ?? DateTime.MinValue) >= TimeSpan.FromSeconds(15))
            await _objects.DeleteIfThere(Resources.Pods, carrier, null, stop).ConfigureAwait(false);
    }

    /// <summary>Removes a carrier; its absence is fine.</summary>
    /// <returns>Whether it was not there any more.</returns>
    public async Task<bool> Remove(ObjectKey key, CancellationToken stop)
    {
        if (carriers.Find(key) is not { } carrier)
            return true;
        if (carrier.Metadata.DeletionTimestamp is null)
            await _objects.DeleteIfThere(Resources.Pods, carrier, 1, stop).ConfigureAwait(false);
        return false;
    }
}
