namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>One device's section in a device-state file.</summary>
/// <param name="Id">The number QEMU gave it, by which the rest of the stream refers to it.</param>
/// <param name="Name">QEMU's name, such as <c>0000:00:02.0/vga</c>.</param>
/// <param name="InstanceId">Distinguishes sections of that name.</param>
/// <param name="Version">Version of the device's own format.</param>
/// <param name="PayloadOffset">Byte of the file at which the device's own data begins.</param>
/// <param name="PayloadLength">Bytes of the device's own data.</param>
public readonly record struct DeviceSection(uint Id, string Name, uint InstanceId, uint Version, int PayloadOffset, int PayloadLength);
