using Bgsnap.SnapshotFormat.Streams;
using static Bgsnap.NodeAgent.Tests.Streams.StreamSamples;

namespace Bgsnap.NodeAgent.Tests.Streams;

public class DeviceStateFileTests
{
    [Fact]
    public void Sections_are_found_without_a_description()
    {
        DeviceStateFile file = DeviceState;
        Assert.Equal([new DeviceSection(0, "timer", 0, 1, 27, 3), new DeviceSection(7, "0000:00:02.0/vga", 0, 1, 65, 7)], file.Sections);
        Assert.Equal(7u, file.LargestSectionId);
        Assert.Equal(Devices, file.StreamPart.ToArray());
    }

    [Fact]
    public void A_footer_inside_a_payload_is_not_taken_for_the_end()
    {
        // The section's own footer, followed by something that is not another section.
        byte[] payload = [.. Footer(3), 4, 0, 0, 0, 9, 200, .. Footer(3), 0, .. Footer(3), 0x7e];
        DeviceStateFile file = DeviceStateFile.Parse((byte[])[.. FileHeader, .. Device(3, "a", payload), .. Device(1, "b"), 0]);
        Assert.Equal(["a", "b"], file.Sections.Select(s => s.Name));
        Assert.Equal(payload.Length, file.Sections[0].PayloadLength);
        Assert.Equal(3u, file.LargestSectionId);
    }

    [Fact]
    public void A_whole_section_inside_a_payload_is_told_apart_by_the_description()
    {
        byte[] payload = [.. Footer(3), .. Device(9, "fake", 1), .. Footer(3)];
        byte[] bytes = [.. FileHeader, .. Device(3, "a", payload), .. Device(1, "b"), 0];
        const string json = """{"devices": [{"name": "a", "instance_id": 0}, {"name": "b", "instance_id": 0}]}""";
        var description = VmDescription.Parse(System.Text.Encoding.ASCII.GetBytes(json), 0);
        Assert.Equal(["a", "b"], DeviceStateFile.Parse(bytes, description).Sections.Select(s => s.Name));
    }

    [Fact]
    public void A_file_cut_anywhere_is_refused()
    {
        byte[] bytes = DeviceStateBytes;
        for (int length = 0; length < bytes.Length; length++)
        {
            byte[] cut = bytes[..length];
            Assert.Throws<MigrationStreamException>(() => DeviceStateFile.Parse(cut));
        }
    }

    [Fact]
    public void No_damaged_byte_makes_it_crash()
    {
        for (int at = 0; at < DeviceStateBytes.Length; at++)
        {
            for (int value = 0; value < 256; value++)
            {
                byte[] bytes = DeviceStateBytes;
                bytes[at] = (byte)value;
                try
                {
                    DeviceStateFile.Parse(bytes);
                }
                catch (MigrationStreamException e)
                {
                    Assert.InRange(e.Offset, 0, bytes.Length);
                }
            }
        }
    }

    [Fact]
    public void Bytes_behind_the_end_are_refused() =>
        Assert.Throws<MigrationStreamException>(() => DeviceStateFile.Parse((byte[])[.. DeviceStateBytes, 1, 0]));

    [Fact]
    public void A_file_without_devices_is_refused() =>
        Assert.Throws<MigrationStreamException>(() => DeviceStateFile.Parse((byte[])[.. FileHeader, 0]));

    [Fact]
    public void A_payload_full_of_footers_takes_no_long_time()
    {
        byte[] footer = [.. Footer(3), 4];
        byte[] payload = new byte[6 << 20];
        for (int at = 0; at < payload.Length; at += footer.Length)
            footer.CopyTo(payload, at);
        Assert.Single(DeviceStateFile.Parse((byte[])[.. FileHeader, .. Device(3, "a", payload), 0]).Sections);
    }
}
