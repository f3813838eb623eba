using System.Globalization;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// Determines who owns QEMU's NBD server. Our note alone does not say so, because another client may have started a server after one of our
/// agents died. Our server listens on a socket that we made.
/// </summary>
internal static class NbdListener
{
    /// <summary>File name of our sockets in their folder.</summary>
    internal const string FileName = "bgsnap-nbd.sock";

    /// <summary>Removes the notes of an agent that died before its server ran, and returns whether one of our servers runs.</summary>
    internal static bool Serves(IQmpMonitor qmp, CheckedProcess? process)
    {
        bool noted = QemuMark.Take(qmp, AgentNames.NbdServer);
        // A socket that was passed to QEMU but not used yet would look like one that serves.
        _ = QemuMark.Take(qmp, AgentNames.NbdListener);
        return (process is null ? null : IsHeldBy(process)) ?? noted;
    }

    /// <summary>Whether a process holds one of our listening sockets; null if its descriptors are not accessible to us.</summary>
    private static bool? IsHeldBy(CheckedProcess process)
    {
        try
        {
            foreach (string link in process.Descriptors())
            {
                if (
                    new FileInfo(link).LinkTarget?.StartsWith("socket:", StringComparison.Ordinal) == true
                    && IsOurs(process.Descriptor, link)
                )
                    return true;
            }
            return false;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or LinuxException { Errno: Errno.EPERM or Errno.EACCES })
        {
            return null;
        }
    }

    private static bool IsOurs(PidFd process, string link)
    {
        try
        {
            using SafeFileHandle copy = process.GetDescriptor(int.Parse(Path.GetFileName(link), CultureInfo.InvariantCulture));
            return UnixSocket.ListensAt(copy)?.EndsWith("/" + FileName, StringComparison.Ordinal) == true;
        }
        catch (LinuxException e) when (e.Errno == Errno.EBADF)
        {
            return false; // closed meanwhile
        }
    }
}
