namespace Bgsnap.NodeAgent.Libvirt;

/// <summary>
/// Whether a process is the QEMU of a domain, by what libvirt puts on its command line. libvirt itself proves it later:
/// <see cref="LibvirtProcess"/>.
/// </summary>
internal static class DomainProcess
{
    /// <summary>Whether the domain's name, and its UUID if that is known, are there.</summary>
    /// <param name="words">The process's command line.</param>
    /// <param name="name">The domain's name, without a comma, which QEMU would have doubled.</param>
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
