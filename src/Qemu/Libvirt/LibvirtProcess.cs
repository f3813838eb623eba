using System.Globalization;
using System.Text;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Libvirt;

/// <summary>Finds a domain's process, which libvirt does not report, and proves that it is the right one.</summary>
internal static class LibvirtProcess
{
    private const string ProofName = "agent-bgsnap-proof";

    /// <summary>Finds QEMU's process.</summary>
    /// <param name="monitor">Its monitor.</param>
    /// <param name="uuid">The domain's UUID.</param>
    /// <param name="pid">The process that the caller names; 0: search for it.</param>
    /// <returns>Its number; 0: it is not visible from here.</returns>
    /// <exception cref="RefusedException">The named process is not the domain's.</exception>
    internal static int Find(IQmpMonitor monitor, Guid uuid, int pid)
    {
        // Two QEMUs may have the same UUID: during a migration within the node, or in two tenants. A descriptor given to one of them shows
        // which process it is.
        using Pipe proof = Pipe.Create();
        string link = new FileInfo($"/proc/self/fd/{proof.Read.DangerousGetHandle()}").LinkTarget!;
        QemuMark.Keep(monitor, ProofName, (int)proof.Read.DangerousGetHandle());
        try
        {
            if (pid == 0)
                return Search(uuid, link);
            return IsIt(pid, link, null)
                ? pid
                : throw new RefusedException(Reasons.ForeignProcess, $"process {pid} is not the QEMU of libvirt's domain {uuid}");
        }
        finally
        {
            _ = QemuMark.Take(monitor, ProofName);
        }
    }

    /// <summary>The UUID on a QEMU's <see cref="CommandLine"/>; null: it has none.</summary>
    internal static Guid? UuidOf(string[] words)
    {
        int at = Array.IndexOf(words, "-uuid");
        return at >= 0 && at + 1 < words.Length && Guid.TryParse(words[at + 1], out Guid uuid) ? uuid : null;
    }

    /// <summary>A process's command line; empty: the process has ended.</summary>
    internal static string[] CommandLine(ProcessEntry process)
    {
        try
        {
            return Encoding.UTF8.GetString(File.ReadAllBytes(process.At("cmdline"))).Split('\0');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static int Search(Guid uuid, string link)
    {
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (
                int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out int pid)
                && IsIt(pid, link, uuid)
            )
                return pid;
        }
        return 0;
    }

    private static bool IsIt(int pid, string link, Guid? uuid)
    {
        try
        {
            using ProcessEntry process = ProcessEntry.Open(pid);
            return (uuid is null || UuidOf(CommandLine(process)) == uuid)
                && process.Descriptors().Any(f => new FileInfo(f).LinkTarget == link);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
