using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Libvirt;

/// <summary>
/// A domain of a libvirt, found and listened to; when libvirtd or virtqemud is restarted, the connection to it is made anew.
/// </summary>
internal sealed class LibvirtConnection : IDisposable
{
    // remote_protocol.x and qemu_protocol.x: these numbers never change, old clients speak to new servers.
    private const uint AuthList = 66,
        ConnectOpen = 1,
        ConnectClose = 2,
        LookupByName = 23,
        LookupByUuid = 24,
        MonitorEventRegister = 4;
    private static readonly TimeSpan CallLimit = TimeSpan.FromSeconds(10);

    private readonly LibvirtSocket _socket;

    private LibvirtConnection(LibvirtSocket socket, LibvirtRpc rpc, LibvirtDomain domain) => (_socket, Rpc, Domain) = (socket, rpc, domain);

    /// <summary>The conversation.</summary>
    internal LibvirtRpc Rpc { get; private set; }

    /// <summary>The domain.</summary>
    internal LibvirtDomain Domain { get; private set; }

    /// <summary>Connects, and looks the domain up by its name or UUID.</summary>
    /// <exception cref="LinuxException">No libvirt listens there, or not for us.</exception>
    /// <exception cref="LibvirtException">It has no such domain that runs.</exception>
    internal static LibvirtConnection Open(LibvirtSocket socket, string domain)
    {
        (LibvirtRpc rpc, LibvirtDomain found) = Open(socket, rpc =>
            Guid.TryParse(domain, out Guid uuid) ? Find(rpc, uuid) : Lookup(rpc, LookupByName, new XdrWriter().Text(domain))
        );
        return new LibvirtConnection(socket, rpc, found);
    }

    /// <summary>Connects anew, however often that fails, within a time.</summary>
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
                    throw new LibvirtException($"domain {Domain.Name} was ended and started anew", LibvirtException.NoDomain);
                return;
            }
            catch (Exception e)
                when (e is LinuxException or LibvirtException { Code: not LibvirtException.NoDomain } && Environment.TickCount64 < end)
            {
                // It is on its way.
            }
            catch (LinuxException e)
            {
                throw new LibvirtException($"libvirt went away and was not back within {patience.TotalSeconds:0} s: {e.Message}");
            }
        }
    }

    private static (LibvirtRpc, LibvirtDomain) Open(LibvirtSocket socket, Func<LibvirtRpc, LibvirtDomain> find)
    {
        LibvirtRpc rpc = socket.Connect();
        try
        {
            // Root needs no other authentication, but libvirt marks that only when it is asked.
            XdrReader methods = new(Run(rpc, LibvirtRpc.Remote, AuthList, new XdrWriter()));
            if (methods.Number() > 0 && methods.Number() != 0)
                throw new LibvirtException("libvirt wants a password or polkit's consent: run as root or as the user whose libvirt it is");
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

    /// <summary>Says farewell: libvirt calls what just ends an error in its log.</summary>
    public void Dispose()
    {
        try
        {
            Run(Rpc, LibvirtRpc.Remote, ConnectClose, new XdrWriter());
        }
        catch (Exception e) when (e is LibvirtException or Qmp.QmpException)
        {
            // It is gone already, or says too much.
        }
        Rpc.Dispose();
    }
}
