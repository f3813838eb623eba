using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.VolumeSnapshots;

/// <summary>
/// Checks whether the storage can make VolumeSnapshots of a VM's claims, as far as that is visible before the guest is stopped.
/// </summary>
internal sealed class VolumeSnapshotPreflight(IApiClient api)
{
    private const string OrElse = "or use another spec.capture.diskMethod, which does not depend on the storage";
    private static readonly string[] DriverAnnotations =
    [
        "volume.kubernetes.io/storage-provisioner",
        "volume.beta.kubernetes.io/storage-provisioner",
    ];

    /// <summary>Checks the API, the class and its driver.</summary>
    /// <exception cref="TerminalException">The storage cannot; the message says why. The guest has not been touched.</exception>
    public async Task Check(VMBackgroundSnapshot snapshot, SourceVm vm, CancellationToken stop)
    {
        string ns = snapshot.Metadata.NamespaceProperty;
        PodSummary pod = await api.Get(Resources.Pods, ns, vm.PodName, stop).ConfigureAwait(false);
        IReadOnlyList<string> claims = PodClaims.Of(pod, vm.Container).All;
        if (claims.Count == 0)
            throw new TerminalException(
                Reasons.NoClaims,
                $"container {vm.Container} of pod {vm.PodName} mounts no claim, so there is no volume to snapshot: use "
                    + "another spec.capture.diskMethod"
            );
        IReadOnlyList<VolumeSnapshotClass> classes = await Classes(snapshot.Spec.Capture?.VolumeSnapshotClassName, stop)
            .ConfigureAwait(false);
        foreach (string name in claims)
        {
            V1PersistentVolumeClaim? claim = await new Objects(api).GetOrNull(CoreResources.Claims, ns, name, stop).ConfigureAwait(false);
            // A manually created volume does not name its driver; then only the storage itself can tell.
            if (DriverOf(claim) is { } driver && classes.All(c => c.Driver != driver))
                throw new TerminalException(
                    Reasons.VolumeSnapshotClassOfOtherDriver,
                    $"claim {name} uses CSI driver {driver}, but {Named(classes)}: name a VolumeSnapshotClass of that driver in "
                        + $"spec.capture.volumeSnapshotClassName, {OrElse}"
                );
        }
    }

    private async Task<IReadOnlyList<VolumeSnapshotClass>> Classes(string? name, CancellationToken stop)
    {
        try
        {
            if (name is not null)
                return [await api.Get(VolumeSnapshotKinds.Classes, null!, name, stop).ConfigureAwait(false)];
            IReadOnlyList<VolumeSnapshotClass> defaults =
            [
                .. (await api.List(VolumeSnapshotKinds.Classes, null, null, stop).ConfigureAwait(false)).Items.Where(IsDefault),
            ];
            return defaults.Count > 0
                ? defaults
                : throw new TerminalException(
                    Reasons.NoDefaultVolumeSnapshotClass,
                    $"no VolumeSnapshotClass is the cluster's default (annotation {VolumeSnapshotKinds.DefaultClassAnnotation}): "
                        + $"name one in spec.capture.volumeSnapshotClassName, {OrElse}"
                );
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            throw new TerminalException(
                Reasons.VolumeSnapshotClassNotFound,
                $"VolumeSnapshotClass {name} does not exist: name one of those that kubectl get volumesnapshotclasses lists, {OrElse}"
            );
        }
        catch (ApiException e) when (e.Code == 404)
        {
            throw new TerminalException(
                Reasons.VolumeSnapshotsNotServed,
                $"this cluster does not serve {VolumeSnapshotKinds.Group}/v1: install the CRDs and the controller of "
                    + $"kubernetes-csi/external-snapshotter, {OrElse}"
            );
        }
    }

    private static bool IsDefault(VolumeSnapshotClass c) =>
        c.Metadata.Annotations?.TryGetValue(VolumeSnapshotKinds.DefaultClassAnnotation, out string? value) == true && value == "true";

    private static string? DriverOf(V1PersistentVolumeClaim? claim) =>
        DriverAnnotations
            .Select(a => claim?.Metadata.Annotations is { } all && all.TryGetValue(a, out string? driver) ? driver : null)
            .FirstOrDefault(d => d is not null);

    private static string Named(IReadOnlyList<VolumeSnapshotClass> classes) =>
        string.Join(", ", classes.Select(c => $"VolumeSnapshotClass {c.Metadata.Name} uses {c.Driver}"));
}
