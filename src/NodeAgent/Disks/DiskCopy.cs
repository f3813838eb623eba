using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Disks;

/// <summary>Copies an NBD export into a qcow2 file.</summary>
internal static class DiskCopy
{
    /// <summary>Reads the whole export and makes the file durable.</summary>
    /// <param name="nbdSocketPath">Unix socket of the NBD server.</param>
    /// <param name="exportName">The export.</param>
    /// <param name="output">An empty file, open for writing.</param>
    /// <param name="display">Its name for errors.</param>
    /// <param name="hooks">What to tell and to ask.</param>
    /// <param name="cancel">Ends it within a tenth of a second.</param>
    /// <exception cref="Nbd.NbdException">The connection was cut, the server is silent, refuses, fails to read, or talks nonsense.</exception>
    /// <exception cref="Linux.LinuxException">The file cannot be written; ENOSPC says so with the file's name.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public static DiskCopyResult Run(
        string nbdSocketPath, string exportName, SafeFileHandle output, string display, DiskCopyHooks hooks, CancellationToken cancel) =>
        throw new NotImplementedException();
}
