using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Removes a snapshot from its claim.</summary>
internal static class SnapshotDeletion
{
    /// <summary>Removes the directory; its absence is fine. Does not touch anything outside it, and follows no links.</summary>
    /// <exception cref="LinuxException">Part of it could not be removed.</exception>
    internal static void Delete(SafeFileHandle claim, string directory)
    {
        using SafeFileHandle parent = SnapshotFiles.OpenDirectory(null, OpenInRoot.PathOf(claim));
        _ = PartialDirectory.Sweep(parent, PartialDirectory.BootDigits(), DateTimeOffset.UtcNow);
        if (FileSyscalls.TryStatus(parent, directory) is null)
            return;
        // The manifest goes first, so that the rest of an interrupted removal does not look like a snapshot.
        using (SafeFileHandle inner = SnapshotFiles.OpenDirectory(parent, directory))
            _ = FileSyscalls.TryUnlink(inner, FormatV1.ManifestFileName, 0);
        if (!PartialDirectory.Remove(parent, directory))
            throw new LinuxException(
                $"{directory}: a file in it could not be removed: remove from the claim what is not the snapshot's, and "
                    + "the operator tries again",
                Errno.EEXIST
            );
        FileSyscalls.Sync(parent, directory);
    }
}
