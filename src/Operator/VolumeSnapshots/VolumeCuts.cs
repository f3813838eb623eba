using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.VolumeSnapshots;

/// <summary>
/// Cuts the disks by the storage: while the agent holds the guest stopped, the operator creates a VolumeSnapshot of each of its claims;
/// when the storage has cut all of them, the agent resumes the guest.
/// </summary>
/// <remarks>
/// <code>
///   agent                          operator                        snapshot controller and CSI driver
///   stop, device state, RAM protected
///   status.holding, disks ───────▶ VolumeSnapshot of each claim ──▶ cut: status.creationTime
///   cont ◀──── spec.release, names ◀──────────────────────────────┘
///   RAM is copied                                                   upload: status.readyToUse
///   Succeeded ───────────────────▶ Ready when both have ended ◀────┘
/// </code>
/// The guest does not depend on any of this: the agent resumes it after maxDowntime, whatever the operator does.
/// </remarks>
internal sealed class VolumeCuts(IApiClient api)
{
    private readonly Objects _objects = new(api);
    private readonly VolumeSnapshotPreflight _preflight = new(api);

    /// <summary>Reasons for which we cancel a capture whose guest is stopped for the cut.</summary>
    public static IReadOnlyList<string> CancelReasons { get; } =
    [Reasons.VolumeSnapshotFailed, Reasons.VolumeSnapshotRefused, Reasons.DiskNotOnClaim, Reasons.NoDisks];

    /// <summary>Whether this snapshot's spec asks for VolumeSnapshots.</summary>
    public static bool AreWanted(VMBackgroundSnapshot snapshot) => snapshot.Spec.Capture?.DiskMethod == DiskCaptureMethod.VolumeSnapshot;

    /// <inheritdoc cref="VolumeSnapshotPreflight.Check"/>
    public Task Check(VMBackgroundSnapshot snapshot, SourceVm vm, CancellationToken stop) => _preflight.Check(snapshot, vm, stop);

    /// <summary>Creates the missing VolumeSnapshots and checks whether the storage has cut them.</summary>
    /// <returns>The VolumeSnapshot of each disk once all are cut; null: not yet.</returns>
    /// <exception cref="TerminalException">A disk cannot be cut.</exception>
    public async Task<IReadOnlyDictionary<string, string>?> Advance(
        VMBackgroundSnapshot snapshot,
        SnapshotTask task,
        CancellationToken stop
    )
    {
        Dictionary<string, string> claimOf = await ClaimsByDisk(task, stop).ConfigureAwait(false);
        // In parallel, because the guest waits.
        VolumeSnapshot[] made = await Task.WhenAll(claimOf.Values.Distinct().Select(claim => FindOrMake(snapshot, claim, stop)))
            .ConfigureAwait(false);
        if (made.FirstOrDefault(HasFailed) is { } failed)
            throw Failed(failed);
        return made.All(v => v.Status?.CreationTime is not null)
            ? claimOf.ToDictionary(p => p.Key, p => VolumeSnapshotBuilder.NameFor(snapshot, p.Value))
            : null;
    }

    /// <summary>The error of the first VolumeSnapshot that the storage gave up, or null.</summary>
    public async Task<TerminalException?> FindFailed(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        (await All(snapshot, stop).ConfigureAwait(false)).FirstOrDefault(HasFailed) is { } failed ? Failed(failed) : null;

    /// <summary>The VolumeSnapshots that are not cut yet, for messages.</summary>
    public async Task<string> Uncut(VMBackgroundSnapshot snapshot, CancellationToken stop) =>
        string.Join(", ", (await All(snapshot, stop).ConfigureAwait(false)).Where(v => v.Status?.CreationTime is null).Select(Describe));

    /// <summary>Describes the first VolumeSnapshot from which the storage cannot make a volume yet; null: all are usable.</summary>
    /// <exception cref="TerminalException">A VolumeSnapshot is gone.</exception>
    public async Task<string?> Unusable(VMBackgroundSnapshot snapshot, SnapshotTask task, CancellationToken stop)
    {
        foreach (string name in task.Spec.VolumeSnapshots?.Values.Distinct() ?? [])
        {
            if (
                await _objects
                    .GetOrNull(VolumeSnapshotKinds.Snapshots, snapshot.Metadata.NamespaceProperty, name, stop)
                    .ConfigureAwait(false)
                is not { } found
            )
                throw new TerminalException(
                    Reasons.VolumeSnapshotLost,
                    $"VolumeSnapshot {name} was deleted. The captured memory stays on the claim until this snapshot is "
                        + "deleted. Create another snapshot"
                );
            if (found.Status?.ReadyToUse == true)
                continue;
            string trouble = found.Status?.Error?.Message is { } message ? $"; it says: {message}" : "";
            return $"the guest runs; the storage is still working on {Describe(found)}{trouble}";
        }
        return null;
    }

    /// <summary>Removes all VolumeSnapshots of this snapshot.</summary>
    public async Task Remove(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        foreach (VolumeSnapshot v in await All(snapshot, stop).ConfigureAwait(false))
            if (v.Metadata.DeletionTimestamp is null)
                await _objects.DeleteIfThere(VolumeSnapshotKinds.Snapshots, v, null, stop).ConfigureAwait(false);
    }

    private async Task<Dictionary<string, string>> ClaimsByDisk(SnapshotTask task, CancellationToken stop)
    {
        VirtualMachineTarget vm = task.Spec.Source!;
        PodClaims claims = PodClaims.Of(
            await api.Get(Resources.Pods, task.Metadata.NamespaceProperty, vm.PodName, stop).ConfigureAwait(false),
            vm.Container
        );
        Dictionary<string, string> claimOf = [];
        // A disk with a note is not captured; the note says why.
        foreach (DiskStatus disk in (task.Status?.Result?.Disks ?? []).Where(d => d.Note is null))
        {
            claimOf[disk.Name ?? ""] = (disk.Path is { } path ? claims.At(path) : null)
                ?? throw new TerminalException(
                    Reasons.DiskNotOnClaim,
                    $"disk {disk.Name} ({disk.Path ?? "no file"}) is not on a claim of pod {vm.PodName}: name only the other "
                        + "disks in spec.capture.disks, or use another spec.capture.diskMethod"
                );
        }
        return claimOf.Count > 0
            ? claimOf
            : throw new TerminalException(
                Reasons.NoDisks,
                $"the virtual machine in pod {vm.PodName} has no disk for a VolumeSnapshot: use another spec.capture.diskMethod"
            );
    }

    private async Task<VolumeSnapshot> FindOrMake(VMBackgroundSnapshot snapshot, string claim, CancellationToken stop) =>
        await _objects
            .GetOrNull(
                VolumeSnapshotKinds.Snapshots,
                snapshot.Metadata.NamespaceProperty,
                VolumeSnapshotBuilder.NameFor(snapshot, claim),
                stop
            )
            .ConfigureAwait(false)
        ?? await _objects
            .CreateOrGet(VolumeSnapshotKinds.Snapshots, VolumeSnapshotBuilder.Build(snapshot, claim), stop)
            .ConfigureAwait(false);

    // Found by label, because the pod, and with it the list of claims, may be gone. A 404 means that the cluster does not serve the kind,
    // so there can be no VolumeSnapshots.
    private async Task<IReadOnlyList<VolumeSnapshot>> All(VMBackgroundSnapshot snapshot, CancellationToken stop)
    {
        try
        {
            return (
                await api.List(
                        VolumeSnapshotKinds.Snapshots,
                        snapshot.Metadata.NamespaceProperty,
                        $"{Names.SnapshotLabel}={snapshot.Metadata.Uid}",
                        stop
                    )
                    .ConfigureAwait(false)
            ).Items;
        }
        catch (ApiException e) when (e.Code == 404)
        {
            return [];
        }
    }

    private static bool HasFailed(VolumeSnapshot v) => v.Status is { CreationTime: null, Error: not null };

    private static TerminalException Failed(VolumeSnapshot v) =>
        new(
            Reasons.VolumeSnapshotFailed,
            $"the storage could not take {Describe(v)}: {v.Status!.Error!.Message ?? "it gave no reason"}. The capture was "
                + "discarded; see the log of the CSI driver, then create another snapshot"
        );

    private static string Describe(VolumeSnapshot v) =>
        $"VolumeSnapshot {v.Metadata.Name} of claim {v.Spec.Source.PersistentVolumeClaimName}";
}
