namespace Bgsnap.Qemu.Libvirt;

/// <summary>
/// Tells whether a process is the QEMU of a domain, by what libvirt puts on its command line. <see cref="LibvirtProcess"/> later proves it
/// through libvirt itself.
/// </summary>
internal static class DomainProcess
{
    /// <summary>Whether the command line names the domain and, if given, its UUID.</summary>
    /// <param name="words">The process's command line.</param>
    /// <param name="name">The domain's name; it has no comma, which QEMU's command line would double.</param>
    /// <param name="uuid">Its UUID; null: any.</param>
    internal static bool IsOf(string[] words, string name, string? uuid)
    {
        int at = Array.IndexOf(words, "-name");
        return at >= 0
            && at + 1 < words.Length
            && words[at + 1].Split(',')[0] == "guest=" + name
            && (uuid is null || (Guid.TryParse(uuid, out Guid wanted) && LibvirtProcess.UuidOf(words) == wanted));
    }
}
