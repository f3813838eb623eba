using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Engine.Restore;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Executes a RestoreDisks task: writes disks of a snapshot to claims that the carrier mounts, before any QEMU uses them. After a restart
/// in the middle, doing it again has the same result.
/// </summary>
internal sealed class RestoreDisksWork(TaskResources places)
{
    /// <summary>Writes the disks.</summary>
    /// <exception cref="TaskFailure">A disk could not be written.</exception>
    internal async Task<SnapshotTaskStatus> Do(SnapshotTask task, TaskProgress progress, CancellationToken cancel)
    {
        string ns = task.Metadata.NamespaceProperty;
        (SafeFileHandle root, _) = await places.OpenContainer(ns, task.Spec.Carrier, Reasons.CarrierLost, cancel).ConfigureAwait(false);
        using (root)
        using (SafeFileHandle claim = await places.OpenClaim(ns, task.Spec.Carrier, cancel).ConfigureAwait(false))
        using (SafeFileHandle place = RestoreWork.OpenSnapshot(claim, task.Spec.Directory))
        {
            // Reads and writes may wait for volumes for hours, so they do not run on a pool thread.
            return await Task
                .Factory.StartNew(
                    () => Write(root, OpenInRoot.PathOf(place), task, progress, cancel),
                    CancellationToken.None,
                    TaskCreationOptions.LongRunning,
                    TaskScheduler.Default
                )
                .ConfigureAwait(false);
        }
    }

    internal static SnapshotTaskStatus Write(
        SafeFileHandle root,
        string path,
        SnapshotTask task,
        TaskProgress progress,
        CancellationToken cancel
    )
    {
        try
        {
            using SnapshotDirectory snapshot = SnapshotDirectory.Open(path);
            List<(SnapshotDisk Disk, TaskDisk Order)> orders =
            [
                .. (task.Spec.Disks ?? []).Select(d => (Find(snapshot, task.Spec.Directory, d.Name), d)),
            ];
            long total = orders.Sum(o => o.Disk.FileBytes + o.Disk.Disk.DataBytes),
                done = 0;
            // Check all disks for damage before writing any.
            foreach ((SnapshotDisk disk, _) in orders)
                disk.Check(Add, cancel);
            foreach ((SnapshotDisk disk, TaskDisk order) in orders)
                WriteOne(root, disk, order, Add, cancel);
            AgentMetrics.Restored(ramBytes: 0, orders.Sum(o => o.Disk.Disk.DataBytes));
            return new SnapshotTaskStatus
            {
                Phase = TaskPhase.Succeeded,
                Percent = 100,
                Bytes = done,
            };

            void Add(long bytes)
            {
                done += bytes;
                progress.Set(total > 0 ? Math.Min(99, 100.0 * done / total) : 0, done);
            }
        }
        catch (SnapshotCorruptException e)
        {
            throw new TaskFailure(Reasons.SnapshotCorrupt, e.Message);
        }
        catch (LinuxException e)
        {
            throw new TaskFailure(Reasons.SnapshotUnreadable, $"{task.Spec.Directory}: {e.Message}");
        }
    }

    private static SnapshotDisk Find(SnapshotDirectory snapshot, string directory, string name)
    {
        ManifestDisk disk = snapshot.Manifest.Disks.FirstOrDefault(d => d.Name == name)
            ?? throw new TaskFailure(
                Reasons.DiskNotFound,
                $"snapshot {directory} has no disk {name}; it has "
                    + $"{(snapshot.Manifest.Disks.Count == 0 ? "none" : string.Join(", ", snapshot.Manifest.Disks.Select(d => d.Name)))}"
            );
        return disk.File is not null
            ? new SnapshotDisk(snapshot, disk)
            : throw new TaskFailure(
                Reasons.DiskNotFound,
                $"the content of disk {name} is not in snapshot {directory} ({disk.Note ?? disk.Method})"
            );
    }

    private static void WriteOne(SafeFileHandle root, SnapshotDisk disk, TaskDisk order, Action<long> progress, CancellationToken cancel)
    {
        try
        {
            using SafeFileHandle image = CarrierImage.Open(root, order.Path, disk.Disk.Image);
            disk.Write(image, order.Path, order.Driver, progress, cancel);
        }
        catch (LinuxException e)
        {
            bool full = e.Errno is Errno.ENOSPC or Errno.EDQUOT or Errno.EFBIG;
            throw new TaskFailure(
                full ? Reasons.TargetFull : Reasons.DiskNotWritten,
                $"disk {order.Name}: {e.Message}{(full ? ": give it a larger claim" : "")}"
            );
        }
    }
}
