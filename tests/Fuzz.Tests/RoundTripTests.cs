using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.NodeAgent.Tests.Streams;
using Bgsnap.Qemu.Libvirt;
using Bgsnap.SnapshotFormat.Qcow2;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;
using CsCheck;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Fuzz;

/// <summary>
/// Where there is a writer, what it wrote is read as what was meant. A failure prints its seed and the smallest case that was found.
/// </summary>
public sealed class RoundTripTests
{
    private static readonly Gen<string> Name = Gen.Char['a', 'z'].Array[1, 20].Select(c => new string(c));

    /// <summary>A page: zero, one byte, all one byte, or noise.</summary>
    private static readonly Gen<byte[]> Page = Gen.Select(Gen.Int[0, 3], Gen.Byte, Gen.Int)
        .Select(
            (kind, value, seed) =>
            {
                byte[] page = new byte[4096];
                if (kind == 1)
                    page[(uint)seed % 4096] = value;
                if (kind == 2)
                    page.AsSpan().Fill(value);
                if (kind == 3)
                    new Random(seed).NextBytes(page);
                return page;
            }
        );

    private static Gen<byte[]> Pages(int most) => Page.Array[1, most].Select(p => p.SelectMany(b => b).ToArray());

    [Fact]
    public unsafe void Granules() =>
        Gen.Select(Pages(16), Gen.Enum<PageCompression>())
            .Sample(
                (memory, compression) =>
                {
                    byte[] stored = new byte[65536],
                        read = new byte[65536];
                    using GranuleEncoder encoder = new(compression);
                    using GranuleDecoder decoder = new();
                    fixed (
                        byte* from = memory,
                            to = stored,
                            back = read
                    )
                    {
                        GranuleEntry e = encoder.Encode(from, memory.Length, to);
                        decoder.Decode(e, stored.AsSpan(0, e.StoredLength), memory.Length, back);
                    }
                    return read.AsSpan(0, memory.Length).SequenceEqual(memory) && !read.AsSpan(memory.Length).ContainsAnyExcept((byte)0);
                },
                iter: 300,
                threads: 1
            );

    [Fact]
    public void Manifests() =>
        Gen.Select(Gen.String, Gen.String.Array[0, 5], Gen.Long, Name.HashSet[0, 5], Gen.Bool)
            .Sample(
                (text, arguments, number, blocks, paused) =>
                {
                    // Half a surrogate pair has no UTF-8; QEMU's arguments are bytes that the kernel gives, and come decoded.
                    if (!IsWhole(text) || !arguments.All(IsWhole))
                        return true;
                    Manifest sample = GuestSnapshot.SampleManifest(Guid.NewGuid());
                    Manifest manifest = sample with
                    {
                        Name = text,
                        Machine = sample.Machine with { Arguments = arguments },
                        Capture = sample.Capture with { TotalMicroseconds = number, Paused = paused },
                        Ram = sample.Ram with { Blocks = [.. blocks.Select(b => new ManifestRamBlock(b, 65536, 4096, text))] },
                    };
                    byte[] written = ManifestJson.Write(manifest);
                    Manifest read = ManifestJson.Read(written, "snapshot.json");
                    return read.Name == text
                        && read.Machine.Arguments.SequenceEqual(arguments)
                        && read.Capture == manifest.Capture with { Timeline = read.Capture.Timeline }
                        && read.Ram.Blocks.SequenceEqual(manifest.Ram.Blocks)
                        && ManifestJson.Write(read).AsSpan().SequenceEqual(written);
                },
                iter: 500,
                threads: 1
            );

    [Fact]
    public void Xdr() =>
        Gen.Select(Gen.UInt, Gen.Byte.Array[0, 300], Gen.String, Gen.Bool)
            .Sample(
                (number, bytes, text, none) =>
                {
                    if (!IsWhole(text))
                        return true;
                    XdrReader reader = new(
                        new XdrWriter().Number(number).Fixed(bytes).Text(text).OptionalText(none ? null : text).Number(number).Written
                    );
                    return reader.Number() == number
                        && reader.Fixed(bytes.Length).SequenceEqual(bytes)
                        && reader.Text() == text
                        && reader.OptionalText() == (none ? null : text)
                        && reader.Number() == number;
                },
                iter: 1000,
                threads: 1
            );

    [Fact]
    public void Migration_streams() =>
        Gen.Select(Pages(20), Pages(3), Gen.Int[1, 5000])
            .Sample(
                (ram, rom, piece) =>
                {
                    MemoryRam source = new MemoryRam().Add("pc.ram", ram).Add("pc.rom", rom),
                        sink = new();
                    byte[] stream = StreamSamples.Write(source, new MigrationStreamWriterOptions { ReaderThreads = 1 });
                    MigrationStreamParser parser = new(sink);
                    for (int at = 0; at < stream.Length; at += piece)
                        parser.Feed(stream.AsSpan(at, Math.Min(piece, stream.Length - at)));
                    MigrationStreamContents contents = parser.Complete();
                    return contents.MachineType == StreamSamples.Machine
                        && contents.DeviceState.Bytes.Span.SequenceEqual(StreamSamples.DeviceStateBytes)
                        && sink.Memory.Zip(source.Memory).All(m => m.First.AsSpan().SequenceEqual(m.Second));
                },
                iter: 100,
                threads: 1
            );

    [Fact]
    public unsafe void Disks() =>
        Gen.Select(Pages(60), Gen.Int[0, 7])
            .Sample(
                (pages, rest) =>
                {
                    byte[] disk = [.. pages, .. new byte[rest * 512]],
                        read = new byte[disk.Length];
                    using SafeFileHandle file = NamedMemory.Create("disk");
                    using Qcow2Writer writer = new(file, "disk", disk.Length);
                    fixed (byte* p = disk)
                    {
                        for (int at = 0; at < disk.Length; at += 65536)
                        {
                            int length = Math.Min(65536, disk.Length - at);
                            if (disk.AsSpan(at, length).ContainsAnyExcept((byte)0))
                                writer.Write(at, p + at, length);
                        }
                    }
                    Qcow2Reader reader = Qcow2Reader.Open(file, writer.Finish(), "disk");
                    reader.Read(0, read);
                    return read.AsSpan().SequenceEqual(disk) && Qcow2Check.Run(reader) == writer.DataBytes;
                },
                iter: 100,
                threads: 1
            );

    private static bool IsWhole(string text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if (!char.IsSurrogate(text[i]))
                continue;
            if (i + 1 == text.Length || !char.IsSurrogatePair(text[i], text[i + 1]))
                return false;
            i++;
        }
        return true;
    }
}
