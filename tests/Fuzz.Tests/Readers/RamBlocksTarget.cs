using System.Text;
using Bgsnap.Fuzz.Engine;
using Bgsnap.Linux;
using Bgsnap.NodeAgent;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.Fuzz.Readers;

/// <summary>The human monitor's table of RAM blocks.</summary>
internal sealed class RamBlocksTarget : FuzzTarget
{
    internal override string Name => "ram-blocks";

    internal override bool IsRefusal(Exception e) => e is RefusedException;

    internal override long AllocationLimit(int length) => (512 << 10) + (256L * length);

    internal override void Read(byte[] input)
    {
        List<RamBlockLine> blocks = RamBlockTable.Parse(Encoding.UTF8.GetString(input));
        Promise(blocks.Count is > 0 and <= 4096, "a table without blocks, or with too many");
        Promise(
            blocks.Select(b => b.Name).Distinct().Count() == blocks.Count && blocks.All(b => b.Name.Length > 0),
            "a name is empty or comes twice"
        );
        Promise(blocks.All(b => b.PageSize > 0), "a block has pages of no bytes");
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        .. new[]
        {
            " ",
            "                                ",
            "\t",
            "\r\n",
            "\n",
            "0x",
            "KiB",
            "MiB",
            "GiB",
            " B ",
            "ffffffffffffffff",
            "4294967296 GiB",
            "0.1 B",
            " rw",
        }.Select(Encoding.ASCII.GetBytes),
    ];

    internal override IEnumerable<byte[]> Samples() =>
        [
            .. new[]
            {
                "              Block Name    PSize              Offset               Used              Total\n                  "
                    + "pc.ram    4 KiB  0x0000000000000000 0x0000000010000000 0x0000000010000000\n    0000:00:02.0/vga.vram    4 KiB  "
                    + "0x0000000010080000 0x0000000001000000 0x0000000001000000\n",
                "              Block Name    PSize              Offset               Used              Total                HVA  "
                    + "RO\n                  pc.ram    2 MiB  0x0000000000000000 0x0000000010000000 0x0000000010000000 "
                    + "0x00007f2d5be00000  rw\n                  pc.bios    4 KiB  0x0000000010000000 0x0000000000040000 "
                    + "0x0000000000040000 0x00007f2d6c000000  ro\n",
            }.Select(Encoding.ASCII.GetBytes),
        ];
}

/// <summary>The kernel's list of a process's mappings, in which the process chooses the names.</summary>
internal sealed class MapsTarget : FuzzTarget
{
    internal override string Name => "maps";

    internal override bool IsRefusal(Exception e) => false;

    internal override long AllocationLimit(int length) => (512 << 10) + (256L * length);

    internal override void Read(byte[] input)
    {
        foreach (string line in Encoding.UTF8.GetString(input).Split('\n'))
        {
            if (MemoryMapping.TryParse(line) is not { } m)
                continue;
            _ = (m.Length, m.IsExecutable, m.IsShared, m.IsWritable);
            Promise(m.End >= m.Start, "a mapping ends before it begins");
        }
    }

    internal override IEnumerable<byte[]> Samples() =>
        [
            .. new[]
            {
                "7f2d5be00000-7f2d6be00000 rw-p 00000000 00:00 0 \n7f2d6be00000-7f2d6be01000 rw-s 00001000 00:01 1027             "
                    + "          /memfd:pc.ram (deleted)\nffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  "
                    + "[vsyscall]\n",
            }.Select(Encoding.ASCII.GetBytes),
        ];
}
