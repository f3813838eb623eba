namespace Bgsnap.NodeAgent.Libvirt;

/// <summary>A domain as libvirt names it in calls: remote_nonnull_domain.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Uuid">Its UUID.</param>
/// <param name="Id">Its number while it runs, else -1.</param>
internal sealed record LibvirtDomain(string Name, Guid Uuid, int Id)
{
    internal static LibvirtDomain Read(ref XdrReader reader) => new(reader.Text(), new Guid(reader.Fixed(16), bigEndian: true), (int)reader.Number());

    internal XdrWriter Write(XdrWriter writer) => writer.Text(Name).Fixed(Uuid.ToByteArray(bigEndian: true)).Number((uint)Id);
}
