using System.Text.Json;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore;

/// <summary>Maps each disk of the snapshot to an image of the target. Everything is checked before anything is written.</summary>
internal sealed class DiskPlan : IDisposable
{
    private readonly List<(SnapshotDisk Disk, TargetImage Image)> _pairs = [];
    private readonly List<string> _differences = [];

    private DiskPlan() { }

    /// <summary>A plan that writes no disk.</summary>
    internal static DiskPlan Nothing => new();

    /// <summary>The differences that rule out this target, in words.</summary>
    internal IReadOnlyList<string> Differences => _differences;

    /// <summary>Bytes that <see cref="Check"/> reads.</summary>
    internal long BytesToCheck => _pairs.Sum(p => p.Disk.FileBytes);

    /// <summary>Bytes that <see cref="Write"/> writes.</summary>
    internal long BytesToWrite => _pairs.Sum(p => p.Disk.Disk.DataBytes);

    /// <summary>The disks that are written.</summary>
    internal IReadOnlyList<string> Names => [.. _pairs.Select(p => p.Disk.Disk.Name)];

    /// <summary>What the target's images lose besides the content that is replaced, in words.</summary>
    internal IReadOnlyList<string> Dropped =>
        [
            .. _pairs
                .Where(p => p.Image.Loses is not null)
                .Select(p => $"disk {p.Disk.Disk.Name}: its image in the target lost {p.Image.Loses}"),
        ];

    /// <summary>Finds and opens the target's image for each disk in the snapshot.</summary>
    internal static DiskPlan Of(RestoreTarget target, SnapshotStream snapshot)
    {
        DiskPlan plan = new();
        try
        {
            using TargetNodes there = TargetNodes.Read(target.Qmp);
            foreach (ManifestDisk disk in snapshot.Manifest.Disks.Where(d => d.File is not null))
                plan.Add(new SnapshotDisk(snapshot.Directory, disk), there, target.Process.Held);
            return plan;
        }
        catch
        {
            plan.Dispose();
            throw;
        }
    }

    /// <summary>Reads every disk file to its end, so that nothing is written if one is damaged.</summary>
    internal void Check(RestoreProgress progress, CancellationToken cancel)
    {
        if (_pairs.Count == 0)
            return;
        progress.Phase = "Checking";
        foreach ((SnapshotDisk disk, _) in _pairs)
            disk.Check(progress.Add, cancel);
    }

    /// <summary>
    /// Writes every disk while the waiting QEMU lives. Once it has ended, another QEMU may use the images.
    /// </summary>
    /// <param name="qemu">The QEMU.</param>
    /// <param name="progress">Receives every piece that was written.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="RestoreFailedException">An image cannot be written, or QEMU has ended.</exception>
    internal void Write(CheckedProcess qemu, RestoreProgress progress, CancellationToken cancel)
    {
        if (_pairs.Count == 0)
            return;
        progress.Phase = "Disks";
        foreach ((SnapshotDisk disk, TargetImage image) in _pairs)
        {
            try
            {
                using ImageLock held = ImageLock.Take(image.File);
                disk.Write(
                    image.File,
                    image.Path,
                    image.Driver,
                    written =>
                    {
                        if (qemu.Descriptor.HasEnded())
                            throw new RestoreFailedException(
                                Reasons.QemuGone,
                                $"QEMU ended while disk {disk.Disk.Name} was written; the disk is incomplete"
                            );
                        progress.Add(written);
                    },
                    cancel
                );
            }
            catch (LinuxException e)
            {
                throw new RestoreFailedException(
                    e.Errno is Errno.ENOSPC or Errno.EDQUOT ? Reasons.TargetFull : Reasons.DiskNotWritten,
                    $"disk {disk.Disk.Name}: {e.Message}",
                    e
                );
            }
        }
    }

    private void Add(SnapshotDisk disk, TargetNodes there, ProcessEntry qemu)
    {
        string name = disk.Disk.Name;
        QmpValue entry = there.Drives.FirstOrDefault(t => t.Name == name).Entry;
        if (entry.ValueKind == JsonValueKind.Undefined)
        {
            string others = there.Drives.Count == 0 ? "none" : string.Join(", ", there.Drives.Select(t => t.Name));
            _differences.Add($"no disk {name} (the target has {others})");
            return;
        }
        try
        {
            _pairs.Add((disk, TargetImage.Open(disk.Disk, entry, there, qemu)));
        }
        catch (MismatchException e)
        {
            _differences.Add($"disk {name} {e.Message}");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach ((_, TargetImage image) in _pairs)
            image.Dispose();
    }
}
