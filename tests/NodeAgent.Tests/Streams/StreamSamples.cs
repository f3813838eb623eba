using System.Buffers.Binary;
using System.Text;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.NodeAgent.Tests.Streams;

/// <summary>Hand-made device states, streams and pieces of them.</summary>
internal static class StreamSamples
{
    public const string Machine = "pc-q35-7.2";

    public static byte[] Be32(uint value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        return bytes;
    }

    public static byte[] Be64(ulong value)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        return bytes;
    }

    public static byte[] Name(string name) => [(byte)name.Length, .. Encoding.Latin1.GetBytes(name)];

    public static byte[] FileHeader => [.. "QEVM"u8, .. Be32(3)];

    public static byte[] Configuration => [7, .. Be32((uint)Machine.Length), .. Encoding.ASCII.GetBytes(Machine)];

    public static byte[] Head(byte type, uint id, string name, uint version) =>
        [type, .. Be32(id), .. Name(name), .. Be32(0), .. Be32(version)];

    public static byte[] Footer(uint id) => [0x7e, .. Be32(id)];

    public static byte[] Device(uint id, string name, params byte[] payload) => [.. Head(4, id, name, 1), .. payload, .. Footer(id)];

    /// <summary>Devices and the end mark, as in a stream.</summary>
    public static byte[] Devices => [.. Device(0, "timer", 1, 2, 3), .. Device(7, "0000:00:02.0/vga", 0x7e, 0, 0, 0, 7, 4, 0), 0];

    public static byte[] DeviceStateBytes => [.. FileHeader, .. Devices];

    public static DeviceStateFile DeviceState => DeviceStateFile.Parse(DeviceStateBytes);

    public const string Description =
        """{"page_size": 4096, "devices": [{"name": "timer", "instance_id": 0, "vmsd_name": "timer", "fields": [{"name": "x", "type": "int", "size": 3}]}, {"name": "0000:00:02.0/vga", "instance_id": 0}]}""";

    public static byte[] DescriptionBytes(string json) => [6, .. Be32((uint)json.Length), .. Encoding.ASCII.GetBytes(json)];

    /// <summary>START section with its block list.</summary>
    public static byte[] RamStart(uint id, params (string Name, ulong Length)[] blocks)
    {
        ulong total = 0;
        List<byte> bytes = [.. Head(1, id, "ram", 4)];
        foreach ((_, ulong length) in blocks)
            total += length;
        bytes.AddRange(Be64(total | 4));
        foreach ((string name, ulong length) in blocks)
            bytes.AddRange([.. Name(name), .. Be64(length)]);
        bytes.AddRange([.. Be64(0x10), .. Footer(id)]);
        return [.. bytes];
    }

    public static byte[] RamSection(byte type, uint id, params byte[] records) =>
        [type, .. Be32(id), .. records, .. Be64(0x10), .. Footer(id)];

    /// <summary>A stream as QEMU's background snapshot sends it: PART sections, no END, devices last.</summary>
    public static byte[] BackgroundSnapshot(bool description = true) =>
        [
            .. FileHeader,
            .. Configuration,
            .. RamStart(2, ("pc.ram", 0x4000), ("pc.bios", 0x1000)),
            .. RamSection(2, 2, [.. Be64(0x0008), .. Name("pc.ram"), .. Page(0x11), .. Be64(0x1022), 0]),
            .. RamSection(2, 2, [.. Be64(0x2028), .. Page(0x22), .. Be64(0x3022), 0, .. Be64(0x0008), .. Name("pc.bios"), .. Page(0x33)]),
            .. Devices,
            .. description ? DescriptionBytes(Description) : [],
        ];

    public static byte[] Page(byte fill)
    {
        byte[] page = new byte[4096];
        page.AsSpan().Fill(fill);
        return page;
    }

    public static byte[] Write(IRamSource ram, MigrationStreamWriterOptions? options = null, DeviceStateFile? deviceState = null)
    {
        using var memory = new MemoryStream();
        long written = new MigrationStreamWriter(Machine, ram, deviceState ?? DeviceState, options).Write(memory);
        Assert.Equal(memory.Length, written);
        return memory.ToArray();
    }

    public static (MemoryRam Ram, MigrationStreamContents Contents) Parse(byte[] stream)
    {
        var ram = new MemoryRam();
        var parser = new MigrationStreamParser(ram);
        parser.Feed(stream);
        return (ram, parser.Complete());
    }
}
