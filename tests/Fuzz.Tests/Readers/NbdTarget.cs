using System.Text;
using Bgsnap.Engine.Disks.Nbd;
using Bgsnap.Fuzz.Engine;
using Bgsnap.Linux;
using static Bgsnap.NodeAgent.Tests.Disks.FakeNbdServer;

namespace Bgsnap.Fuzz.Readers;

/// <summary>What an NBD server says: handshake, block status, data, holes, errors.</summary>
internal sealed class NbdTarget : FuzzTarget
{
    private const int Most = 16384;
    private static readonly TimeSpan ForEver = TimeSpan.FromMinutes(10);
    private readonly Peer _peer = new();
    private readonly GuardedBuffer _into = new(Most);

    internal override string Name => "nbd";

    internal override bool IsRefusal(Exception e) => e is NbdException;

    internal override unsafe void Read(byte[] input)
    {
        _peer.Say(input);
        using UnixSocket socket = UnixSocket.ConnectTo(_peer.Path);
        NbdClient client = NbdClient.Negotiate(socket, "disk", CancellationToken.None, ForEver);
        NbdExport export = client.Export;
        Promise(
            export.Size >= 0
                && export.MaximumBlock >= 65536
                && export.MinimumBlock is > 0 and <= 65536
                && export.Size % export.MinimumBlock == 0,
            "an impossible export"
        );
        List<NbdExtent> extents = [];
        for (long at = 0; at < export.Size; )
        {
            client.BlockStatus(at, extents);
            Promise(extents.Count > 0, "no extents");
            foreach (NbdExtent e in extents)
            {
                Promise(
                    e.Offset == at && e.Length > 0 && e.Offset + e.Length <= export.Size,
                    "an extent has a gap before it, or leads past the end"
                );
                at += e.Length;
            }
            NbdExtent first = extents[0];
            // SAFETY: no more than the buffer has; the page behind it is guarded.
            client.Read(first.Offset, (int)Math.Min(Most, first.Length), _into.Pointer + Most - (int)Math.Min(Most, first.Length));
            client.Trim(first.Offset, 4096);
        }
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9],
        Be32(0x668e33ef),
        Be32(0x67446698),
        Chunk(1, 1, [.. Be64(0), .. new byte[512]]),
        Chunk(2, 2, [.. Be64(0), .. Be32(512)]),
        Chunk(1, 5, [.. Be32(77), .. Be32(4096), .. Be32(0)]),
        Chunk(2, 0x8001, [.. Be32(5), 0, 2, (byte)'n', (byte)'o']),
        Simple(3, 0),
        OptionReply(7, 1),
        OptionReply(10, 0x80000001),
        OptionReply(8, 1),
        Be64(1),
        Be64(2),
        Be64(3),
        Be64(4),
    ];

    internal override IEnumerable<byte[]> Samples()
    {
        byte[] hello =
        [
            .. "NBDMAGICIHAVEOPT"u8,
            0,
            3,
            .. OptionReply(8, 1),
            .. OptionReply(10, 4, [.. Be32(77), .. Encoding.ASCII.GetBytes("base:allocation")]),
            .. OptionReply(10, 1),
            .. OptionReply(7, 3, [0, 0, .. Be64(32768), .. Be16(1 | 0x20 | 0x80)]),
            .. OptionReply(7, 3, [0, 3, .. Be32(1), .. Be32(4096), .. Be32(32 << 20)]),
            .. OptionReply(7, 1),
        ];
        byte[] page = new byte[16384];
        // One request after another, each answered rightly: status, status in detail, read, trim.
        yield return
        [
            .. hello,
            .. Chunk(1, 5, [.. Be32(77), .. Be32(16384), .. Be32(0)]),
            .. Chunk(2, 5, [.. Be32(77), .. Be32(16384), .. Be32(0), .. Be32(16384), .. Be32(3)]),
            .. Chunk(3, 1, [.. Be64(0), .. page]),
            .. Simple(4, 0),
        ];
        yield return
        [
            .. hello,
            .. Chunk(1, 5, [.. Be32(77), .. Be32(32768), .. Be32(3)]),
            .. Chunk(2, 1, [.. Be64(0), .. page.AsSpan(0, 8192)], flags: 0),
            .. Chunk(2, 2, [.. Be64(8192), .. Be32(8192)]),
            .. Chunk(3, 0x8001, [.. Be32(22), 0, 2, (byte)'n', (byte)'o']),
        ];
        yield return
        [
            .. "NBDMAGICIHAVEOPT"u8,
            0,
            3,
            .. OptionReply(8, 1),
            .. OptionReply(10, 0x80000001),
            .. OptionReply(7, 0x80000006, [.. "no such export"u8]),
        ];
    }

    protected override void CleanUp()
    {
        _peer.Dispose();
        _into.Dispose();
    }
}
