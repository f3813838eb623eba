using Bgsnap.NodeAgent.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Libvirt;

/// <summary>Where a libvirt listens.</summary>
/// <param name="Root">The process in whose root the path is; 0: in ours.</param>
/// <param name="Paths">The socket; the first of them that is there.</param>
/// <param name="Driver">The driver to open, such as <c>qemu:///session</c>; null: what this libvirt has.</param>
internal sealed record LibvirtSocket(int Root, IReadOnlyList<string> Paths, string? Driver)
{
    /// <summary>virtqemud, which KubeVirt has, before the older daemon of all drivers.</summary>
    private static readonly string[] Names = ["virtqemud-sock", "libvirt-sock"];

    /// <summary>The libvirt in the container of a process; a launcher's <c>/var/run</c> is an absolute link, so it is looked up in that root.</summary>
    internal static LibvirtSocket Behind(int pid) => new(pid, In("/run/libvirt"), null);

    /// <summary>Reads <c>qemu:///session</c>, <c>qemu:///system</c> and both with <c>qemu+unix:</c> and <c>?socket=PATH</c>.</summary>
    /// <exception cref="ArgumentException">It is something else.</exception>
    internal static LibvirtSocket Parse(string uri)
    {
        string[] parts = uri.Split('?', 2);
        string driver = parts[0] switch
        {
            "qemu:///system" or "qemu+unix:///system" => "qemu:///system",
            "qemu:///session" or "qemu+unix:///session" => "qemu:///session",
            _ => throw new ArgumentException($"--libvirt '{uri}': write qemu:///system, qemu:///session, or qemu+unix:///session?socket=PATH; a libvirt of another host cannot be used, the agent must run where QEMU does"),
        };
        const string socket = "socket=";
        if (parts.Length == 1)
            return new LibvirtSocket(0, In(driver == "qemu:///system" ? "/run/libvirt" : Path.Join(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR") ?? "/run", "libvirt")), driver);
        string? path = parts[1].Split('&').FirstOrDefault(p => p.StartsWith(socket, StringComparison.Ordinal))?[socket.Length..];
        return path is { Length: > 0 } ? new LibvirtSocket(0, [path], driver) : throw new ArgumentException($"--libvirt '{uri}': only ?socket=PATH may follow");
    }

    /// <summary>Connects to the first that is there.</summary>
    /// <exception cref="LinuxException">None is, or nobody listens.</exception>
    internal LibvirtRpc Connect()
    {
        for (int i = 0; ; i++)
        {
            try
            {
                return Connect(Paths[i]);
            }
            catch (LinuxException e) when (e.Errno is Errno.ENOENT && i + 1 < Paths.Count)
            {
                // The next one.
            }
        }
    }

    // A daemon that starts anew makes its socket anew: looked up each time.
    private LibvirtRpc Connect(string path)
    {
        if (Root == 0)
            return LibvirtRpc.Connect(path);
        using SafeFileHandle root = OpenIn.RootOf(Root);
        using SafeFileHandle socket = OpenIn.Open(root, path, directory: false);
        return LibvirtRpc.Connect(OpenIn.PathOf(socket));
    }

    private static string[] In(string folder) => [.. Names.Select(n => $"{folder}/{n}")];
}
