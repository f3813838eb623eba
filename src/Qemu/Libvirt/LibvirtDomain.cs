namespace Bgsnap.Qemu.Libvirt;

/// <summary>A domain as libvirt names it in calls: remote_nonnull_domain.</summary>
/// <param name="name">Its name.</param>
/// <param name="uuid">Its UUID.</param>
/// <param name="id">Its number while it runs, else -1.</param>
internal sealed class LibvirtDomain(string name, Guid uuid, int id)
{
    /// <summary>Its name.</summary>
    internal string Name => name;

    /// <summary>Its UUID.</summary>
    internal Guid Uuid => uuid;

    /// <summary>Its number while it runs, else -1.</summary>
    internal int Id => id;

    internal static LibvirtDomain Read(ref XdrReader reader) =>
        new(reader.Text(), new Guid(reader.Fixed(16), bigEndian: true), (int)reader.Number());

    internal XdrWriter Write(XdrWriter writer) => writer.Text(Name).Fixed(Uuid.ToByteArray(bigEndian: true)).Number((uint)Id);
}
