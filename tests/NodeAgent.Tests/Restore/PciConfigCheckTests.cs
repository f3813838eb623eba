using Bgsnap.Engine.Restore;
using Bgsnap.SnapshotFormat.Streams;
using static Bgsnap.NodeAgent.Tests.Streams.StreamSamples;

namespace Bgsnap.NodeAgent.Tests.Restore;

public sealed class PciConfigCheckTests
{
    private const int MsiX = 0x98,
        Virtio = 0x84,
        Window = 0x70;

    [Fact]
    public void The_same_device_does_not_differ_whatever_its_guest_has_set() =>
        Assert.Empty(
            Differences(c =>
            {
                c[4] = 7; // command
                c[6] |= 8; // an interrupt is pending
                c[0x10] = 1; // a base address
                c[0x3c] = 11; // its line
                c[MsiX + 3] |= 0x80; // enabled
                c[Window + 4] = 3; // the window has been moved
            })
        );

    [Theory]
    [InlineData(2, 0x42, "PCI id 1af4:1042 instead of 1af4:1001")]
    [InlineData(8, 1, "PCI revision 1 of class 0100 instead of 0 of class 0100")]
    [InlineData(14, 0x80, "PCI header 80 instead of 00 (multifunction)")]
    [InlineData(6, 0, "other PCI capabilities (vectors, msi, modern or legacy virtio)")]
    [InlineData(0x34, Virtio, "other PCI capabilities (vectors, msi, modern or legacy virtio)")]
    [InlineData(MsiX + 1, Window, "other PCI capabilities (vectors, msi, modern or legacy virtio)")]
    [InlineData(MsiX + 2, 1, "2 vectors instead of 5")]
    [InlineData(MsiX + 4, 8, "another table of vectors")]
    [InlineData(Virtio + 4, 2, "other virtio registers (modern or legacy)")]
    public void What_no_guest_can_change_is_named(int at, byte value, string difference) =>
        Assert.Equal($"device 0000:00:02.0/virtio-blk has {difference}", Assert.Single(Differences(c => c[at] = value)));

    [Fact]
    public void A_place_of_which_a_difference_is_known_is_left_out() =>
        Assert.Empty(PciConfigCheck.Differences(State(Config()), State(Config(c => c[2] = 0x42)), ["0000:00:02.0"]));

    [Fact]
    public void What_is_no_configuration_space_is_left_alone()
    {
        byte[] other = [.. Be32(2), .. new byte[300]];
        Assert.Empty(PciConfigCheck.Differences(State(Config()), State(other), []));
        Assert.Empty(PciConfigCheck.Differences(State([.. Be32(2), .. new byte[20]]), State(Config()), []));
        Assert.Empty(PciConfigCheck.Differences(State([.. Be32(3), .. Config()[4..]]), State(Config(c => c[2] = 0x42)), []));
    }

    /// <summary>The snapshot's bytes may come from an attacker: lists without an end, or that lead out of the space.</summary>
    [Fact]
    public void No_bytes_make_it_crash()
    {
        Random random = new(7);
        for (int i = 0; i < 20_000; i++)
        {
            byte[] config = Config();
            for (int n = random.Next(8); n >= 0; n--)
                config[4 + random.Next(256)] = (byte)random.Next(256);
            _ = PciConfigCheck.Differences(State(config), State((byte[])config.Clone()), []).Count();
        }
    }

    private static IEnumerable<string> Differences(Action<byte[]> change) =>
        PciConfigCheck.Differences(State(Config()), State(Config(change)), []);

    private static DeviceStateFile State(byte[] payload) =>
        DeviceStateFile.Parse((byte[])[.. FileHeader, .. Device(1, "0000:00:02.0/virtio-blk", payload), 0]);

    /// <summary>A virtio disk: MSI-X with five vectors, registers, and the window.</summary>
    private static byte[] Config(Action<byte[]>? change = null)
    {
        byte[] c = new byte[256];
        new byte[] { 0xf4, 0x1a, 0x01, 0x10, 0, 0, 0x10, 0, 0, 0, 0x00, 0x01 }.CopyTo(c, 0);
        c[0x34] = MsiX;
        new byte[] { 0x11, Virtio, 4, 0, 1, 0, 0, 0, 1, 8, 0, 0 }.CopyTo(c, MsiX);
        new byte[] { 0x09, Window, 16, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0 }.CopyTo(c, Virtio);
        new byte[] { 0x09, 0, 20, 5, 0 }.CopyTo(c, Window);
        change?.Invoke(c);
        return [.. Be32(2), .. c];
    }
}
