using System.Text;
using Bgsnap.Fuzz.Engine;
using Bgsnap.NodeAgent.Tests.Streams;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.Fuzz.Readers;

/// <summary>
/// A device state, and the JSON by which QEMU describes one. The input is the state, then "\n{" and the rest of the description, if there
/// is one.
/// </summary>
internal sealed class DeviceStateTarget : FuzzTarget
{
    internal override string Name => "device-state";

    internal override bool IsRefusal(Exception e) => e is MigrationStreamException;

    internal override long AllocationLimit(int length) => (512 << 10) + (128L * length);

    internal override void Read(byte[] input)
    {
        int at = input.AsSpan().LastIndexOf("\n{"u8);
        VmDescription? description = at < 0 ? null : VmDescription.Parse(input.AsSpan(at + 1), at + 1);
        DeviceStateFile file = DeviceStateFile.Parse(at < 0 ? input : input.AsMemory(0, at), description);
        int end = 8;
        foreach (DeviceSection s in file.Sections)
        {
            Promise(s.PayloadOffset > end && s.PayloadLength >= 0, "the sections overlap");
            end = s.PayloadOffset + s.PayloadLength + 5;
        }
        Promise(end == file.Bytes.Length - 1, "the sections do not fill the file");
        Promise(
            description is null || file.Sections.Select(s => new DescribedDevice(s.Name, s.InstanceId)).SequenceEqual(description.Devices),
            "the sections are not those that were described"
        );
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        [0x7e, 0, 0, 0, 7],
        [4, 0, 0, 0, 7, 1, (byte)'x', 0, 0, 0, 0, 0, 0, 0, 1],
        [0],
        .. new[]
        {
            "\n{\"devices\":[{\"name\":\"timer\",\"instance_id\":0}]}",
            "\"devices\":[",
            "\"instance_id\":-1",
            "\"\\ud800\"",
            "[[[[[[[[",
            "1e5",
            "\n{}",
        }.Select(Encoding.ASCII.GetBytes),
    ];

    internal override IEnumerable<byte[]> Samples() =>
        [
            StreamSamples.DeviceStateBytes,
            [.. StreamSamples.DeviceStateBytes, (byte)'\n', .. Encoding.ASCII.GetBytes(StreamSamples.Description)],
            [.. StreamSamples.DeviceStateBytes, (byte)'\n', (byte)'{', (byte)'}'],
        ];
}
