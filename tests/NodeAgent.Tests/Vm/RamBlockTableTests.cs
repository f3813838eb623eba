using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.NodeAgent.Tests.Vm;

public sealed class RamBlockTableTests
{
    // The output of these QEMUs for -machine pc -m 64M -device VGA.
    private const string Qemu7 = """
                      Block Name    PSize              Offset               Used              Total
                          pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000
           0000:00:02.0/vga.vram    4 KiB  0x0000000004080000 0x0000000001000000 0x0000000001000000
            /rom@etc/acpi/tables    4 KiB  0x00000000050c0000 0x0000000000020000 0x0000000000200000
                         pc.bios    4 KiB  0x0000000004000000 0x0000000000040000 0x0000000000040000
        """;

    private const string Qemu10 = """
                      Block Name    PSize              Offset               Used              Total                HVA  RO
                          pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000 0x00007f0ba3e00000  rw
           0000:00:02.0/vga.vram    4 KiB  0x0000000004080000 0x0000000001000000 0x0000000001000000 0x00007f0ba2200000  rw
            /rom@etc/acpi/tables    4 KiB  0x00000000050c0000 0x0000000000020000 0x0000000000200000 0x00007f0ba1e00000  ro
                         pc.bios    4 KiB  0x0000000004000000 0x0000000000040000 0x0000000000040000 0x00007f0bec400000  ro
        """;

    private const string Head = "              Block Name    PSize              Offset               Used              Total\n";

    [Theory]
    [InlineData(Qemu7, false)]
    [InlineData(Qemu10, true)]
    public void The_tables_of_both_QEMUs_are_read(string table, bool withAddresses)
    {
        List<RamBlockLine> blocks = RamBlockTable.Parse(table.Replace("\n", "\r\n", StringComparison.Ordinal));
        Assert.Equal(["pc.ram", "0000:00:02.0/vga.vram", "/rom@etc/acpi/tables", "pc.bios"], blocks.Select(b => b.Name));
        Assert.All(blocks, b => Assert.Equal(4096u, b.PageSize));
        Assert.Equal(
            new RamBlockLine("/rom@etc/acpi/tables", 4096, 0x50c0000, 0x20000, 0x200000, withAddresses ? 0x7f0ba1e00000u : 0),
            blocks[2]
        );
        Assert.All(blocks, b => Assert.Equal(withAddresses, b.HostAddress != 0));
    }

    [Theory]
    [InlineData("4 KiB", 4096)]
    [InlineData("64 KiB", 65536)]
    [InlineData("2 MiB", 2 << 20)]
    [InlineData("1 GiB", 1 << 30)]
    [InlineData("4096 B", 4096)]
    public void Page_sizes_are_read(string size, uint bytes) =>
        Assert.Equal(bytes, Assert.Single(RamBlockTable.Parse(Head + Row("mem", size))).PageSize);

    [Fact]
    public void A_block_without_a_name_is_not_migrated_and_left_out() =>
        Assert.Equal("mem", Assert.Single(RamBlockTable.Parse(Head + Row("") + "\n" + Row("mem"))).Name);

    [Fact]
    public void A_name_may_hold_blanks() => Assert.Equal("my mem", Assert.Single(RamBlockTable.Parse(Head + Row("my mem"))).Name);

    [Theory]
    [InlineData("unknown command: 'info ramblock'")]
    [InlineData("  mem    4 KiB  0x0 0x1000")]
    [InlineData("  mem    4 XiB  0x0 0x1000 0x1000")]
    [InlineData("  mem    4 KiB  0x0 0xg000 0x1000")]
    [InlineData("  mem    -4 KiB  0x0 0x1000 0x1000 trailing")]
    [InlineData("  mem    4 KiB  0x0 0x1000 0x1000 0x7f0000000000")]
    [InlineData("  mem    4 KiB  0x0 0x1000 0x1000 0x7f0000000000  xx")]
    public void A_line_that_is_not_understood_is_refused_and_quoted(string line)
    {
        RefusedException e = Assert.Throws<RefusedException>(() => RamBlockTable.Parse(Head + Row("mem") + "\n" + line));
        Assert.Equal("RamBlocksUnknown", e.Reason);
        Assert.Contains(line.Trim(), e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData(Head)]
    public void A_table_without_blocks_is_refused(string table) =>
        Assert.Equal("RamBlocksUnknown", Assert.Throws<RefusedException>(() => RamBlockTable.Parse(table)).Reason);

    [Fact]
    public void A_table_without_end_is_refused() =>
        Assert.Throws<RefusedException>(() =>
            RamBlockTable.Parse(Head + string.Join('\n', Enumerable.Range(0, 5000).Select(i => Row($"mem{i}"))))
        );

    private static string Row(string name, string size = "4 KiB") =>
        $"{name, 24}  {size, 7}  0x0000000000000000 0x0000000004000000 0x0000000004000000";
}
