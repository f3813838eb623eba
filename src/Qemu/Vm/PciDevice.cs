namespace Bgsnap.Qemu.Vm;

/// <summary>A device on a PCI bus of a running QEMU.</summary>
/// <param name="Path">
/// Its place, in the form in which section names begin: domain, bus, and slot and function of each level, such as <c>0000:00:02.0:00.0</c>.
/// </param>
/// <param name="Type">QEMU's name for its type, such as <c>virtio-blk-pci</c>.</param>
internal sealed record PciDevice(string Path, string Type)
{
    /// <summary>Its id; null if it has no id.</summary>
    public string? Id { get; init; }

    /// <summary>Vendor and device, such as <c>1af4:1001</c>; null if QEMU did not report them.</summary>
    public string? PciId { get; init; }

    /// <summary>Other properties that shape its state: vectors, queues, ports; null if no such property is known.</summary>
    public IReadOnlyDictionary<string, string>? Properties { get; init; }
}
