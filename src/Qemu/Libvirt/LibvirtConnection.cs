using Bgsnap.Linux;

namespace Bgsnap.Qemu.Libvirt;

/// <summary>
/// A connection to a libvirt domain and its events; it can reconnect when libvirtd or virtqemud restarts.
/// </summary>
internal sealed class LibvirtConnection : IDisposable
{
    // remote_protocol.x and qemu_protocol.x: these numbers never change, because old clients talk to new servers.
    private const uint AuthList = 66,
        ConnectOpen = 1,
        ConnectClose = 2,
        LookupByName = 23,
        LookupByUuid = 24,
        MonitorEventRegister = 4;
    private static readonly TimeSpan CallLimit = TimeSpan.FromSeconds(10);

    private readonly LibvirtSocket _socket;

    private LibvirtConnection(LibvirtSocket socket, LibvirtRpc rpc, LibvirtDomain domain) => (_socket, Rpc, Domain) = (socket, rpc, domain);

    /// <summary>The RPC connection.</summary>
    internal LibvirtRpc Rpc { get; private set; }

    /// <summary>The domain.</summary>
    internal LibvirtDomain Domain { get; private set; }

    /// <summary>Connects, and looks the domain up by its name or UUID.</summary>
    /// <exception cref="LinuxException">No libvirt listens there, or we may not connect.</exception>
    /// <exception cref="LibvirtException">It has no such running domain.</exception>
    internal static LibvirtConnection Open(LibvirtSocket socket, string domain)
    {
        (LibvirtRpc rpc, LibvirtDomain found) = Open(socket, rpc =>
            Guid.TryParse(domain, out Guid uuid) ? Find(rpc, uuid) : Lookup(rpc, LookupByName, new XdrWriter().Text(domain))
        );
        return new LibvirtConnection(socket, rpc, found);
    }

    /// <summary>Reconnects, with retries within a time limit.</summary>
    /// <exception cref="LibvirtException">The domain has ended, or libvirt does not come back.</exception>
    internal void Reopen(TimeSpan patience)
    {
        Rpc.Dispose();
        for (long end = Environment.TickCount64 + (long)patience.TotalMilliseconds; ; Thread.Sleep(50))
        {
            try
            {
                (Rpc, LibvirtDomain found) = Open(_socket, rpc => Find(rpc, Domain.Uuid));
                if (found.Id != Domain.Id)
                    throw new LibvirtException($"domain {Domain.Name} was ended and started again", LibvirtException.NoDomain);
                return;
            }
            catch (Exception e)
                when (e is LinuxException or LibvirtException { Code: not LibvirtException.NoDomain } && Environment.TickCount64 < end)
            {
                // libvirt is still starting.
            }
            catch (LinuxException e)
            {
                throw new LibvirtException($"libvirt ended and did not come back within {patience.TotalSeconds:0} s: {e.Message}");
            }
        }
    }

    private static (LibvirtRpc, LibvirtDomain) Open(LibvirtSocket socket, Func<LibvirtRpc, LibvirtDomain> find)
    {
        LibvirtRpc rpc = socket.Connect();
        try
        {
            // Root needs no other authentication, but libvirt only notes that when the client asks for the methods.
            XdrReader methods = new(Run(rpc, LibvirtRpc.Remote, AuthList, new XdrWriter()));
            if (methods.Number() > 0 && methods.Number() != 0)
                throw new LibvirtException(
                    "libvirt asks for a password or for polkit's consent: run as root, or as the user who runs libvirt"
                );
            Run(
                rpc,
                LibvirtRpc.Remote,
                ConnectOpen,
                new XdrWriter().OptionalText(socket.Driver ?? (rpc.IsRoots ? "qemu:///system" : "qemu:///session")).Number(0)
            );
            LibvirtDomain domain = find(rpc);
            if (domain.Id < 0)
                throw new LibvirtException($"domain {domain.Name} does not run", LibvirtException.NoDomain);
            // All events of this domain's monitor.
            Run(rpc, LibvirtRpc.Qemu, MonitorEventRegister, domain.Write(new XdrWriter().Number(1)).OptionalText(null).Number(0));
            return (rpc, domain);
        }
        catch
        {
            rpc.Dispose();
            throw;
        }
    }

    private static LibvirtDomain Find(LibvirtRpc rpc, Guid uuid) =>
        Lookup(rpc, LookupByUuid, new XdrWriter().Fixed(uuid.ToByteArray(bigEndian: true)));

    private static LibvirtDomain Lookup(LibvirtRpc rpc, uint procedure, XdrWriter which)
    {
        XdrReader found = new(Run(rpc, LibvirtRpc.Remote, procedure, which));
        return LibvirtDomain.Read(ref found);
    }

    private static byte[] Run(LibvirtRpc rpc, uint program, uint procedure, XdrWriter arguments) =>
        rpc.Run(program, procedure, arguments, -1, CallLimit);

    /// <summary>Closes the connection in good order: libvirt logs an error for a connection that just ends.</summary>
    public void Dispose()
    {
        try
        {
            Run(Rpc, LibvirtRpc.Remote, ConnectClose, new XdrWriter());
        }
        catch (Exception e) when (e is LibvirtException or Qmp.QmpException)
        {
            // The connection is gone already, or libvirt sends too much.
        }
        Rpc.Dispose();
    }
}
