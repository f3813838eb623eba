using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Qemu.Libvirt;

/// <summary>Where a libvirt listens.</summary>
/// <param name="root">The process in whose root the paths are; null: our own root.</param>
/// <param name="paths">Candidates for the socket; the first that exists counts.</param>
/// <param name="driver">The driver to open, such as <c>qemu:///session</c>; null: the driver that this libvirt has.</param>
internal sealed class LibvirtSocket(ProcessEntry? root, string[] paths, string? driver)
{
    /// <summary>The process in whose root the paths are; null: our own root.</summary>
    internal ProcessEntry? Root => root;

    /// <summary>Candidates for the socket; the first that exists counts.</summary>
    internal IReadOnlyList<string> Paths => paths;

    /// <summary>The driver to open; null: the driver that this libvirt has.</summary>
    internal string? Driver => driver;

    /// <summary>virtqemud, which KubeVirt uses, before the older daemon for all drivers.</summary>
    private static readonly string[] Names = ["virtqemud-sock", "libvirt-sock"];

    // Monitors and guest agents share it, and may have to reconnect at any time, so its handle is closed with the last of them.
    /// <summary>
    /// The libvirt in the container of a process; a launcher's <c>/var/run</c> is an absolute link, so it is looked up in that root.
    /// </summary>
    internal static LibvirtSocket Behind(ProcessEntry process) => new(process, In("/run/libvirt"), null);

    /// <summary>Parses <c>qemu:///session</c>, <c>qemu:///system</c> and both with <c>qemu+unix:</c> and <c>?socket=PATH</c>.</summary>
    /// <exception cref="ArgumentException">The URI is something else.</exception>
    internal static LibvirtSocket Parse(string uri)
    {
        string[] parts = uri.Split('?', 2);
        string named = parts[0] switch
        {
            "qemu:///system" or "qemu+unix:///system" => "qemu:///system",
            "qemu:///session" or "qemu+unix:///session" => "qemu:///session",
            _ => throw new ArgumentException(
                $"--libvirt '{uri}': write qemu:///system, qemu:///session, or qemu+unix:///session?socket=PATH; libvirt on "
                    + "another host does not work, because the agent must run where QEMU does"
            ),
        };
        const string socket = "socket=";
        if (parts.Length == 1)
            return new LibvirtSocket(
                null,
                In(
                    named == "qemu:///system"
                        ? "/run/libvirt"
                        : Path.Join(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR") ?? "/run", "libvirt")
                ),
                named
            );
        string? path = parts[1].Split('&').FirstOrDefault(p => p.StartsWith(socket, StringComparison.Ordinal))?[socket.Length..];
        return path is { Length: > 0 }
            ? new LibvirtSocket(null, [path], named)
            : throw new ArgumentException($"--libvirt '{uri}': only ?socket=PATH may follow");
    }

    /// <summary>Connects to the first socket that exists.</summary>
    /// <exception cref="LinuxException">No socket exists, or nobody listens.</exception>
    internal LibvirtRpc Connect()
    {
        for (int i = 0; ; i++)
        {
            try
            {
                return Connect(paths[i]);
            }
            catch (LinuxException e) when (e.Errno is Errno.ENOENT && i + 1 < paths.Length)
            {
                // Try the next one.
            }
        }
    }

    // A daemon that restarts creates a new socket, so the path is resolved on each call.
    private LibvirtRpc Connect(string path)
    {
        if (root is null)
            return LibvirtRpc.Connect(path);
        using SafeFileHandle there = OpenInRoot.RootOf(root);
        using SafeFileHandle socket = OpenInRoot.Open(there, path, directory: false);
        return LibvirtRpc.Connect(OpenInRoot.PathOf(socket));
    }

    private static string[] In(string folder) => [.. Names.Select(n => $"{folder}/{n}")];
}
