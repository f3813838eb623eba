using Bgsnap.Linux;

namespace Bgsnap.NodeAgent.Tests.Linux;

public sealed class MemoryMappingTests
{
    [Fact]
    public void A_file_with_blanks_in_its_name_is_read_whole()
    {
        MemoryMapping m = MemoryMapping.TryParse(
            "7f0068040000-7f0068043000 rw-s 00001000 00:01 557                        /memfd:two  words (deleted)"
        )!;
        Assert.Equal(new MemoryMapping(0x7f0068040000, 0x7f0068043000, "rw-s", 0x1000, "00:01", 557, "/memfd:two  words (deleted)"), m);
        Assert.Equal(0x3000ul, m.Length);
        Assert.True(m is { IsShared: true, IsWritable: true, IsExecutable: false });
    }

    [Theory]
    [InlineData("7ffc1000-7ffc2000 r-xp 00000000 00:00 0                          [vdso]", "[vdso]")]
    [InlineData("7ffc1000-7ffc2000 r-xp 00000000 00:00 0 ", "")]
    [InlineData("7ffc1000-7ffc2000 r-xp 00000000 00:00 0", "")]
    public void Anonymous_memory_may_have_a_name(string line, string name)
    {
        MemoryMapping m = MemoryMapping.TryParse(line)!;
        Assert.Equal(name, m.Path);
        Assert.True(m is { Inode: 0, IsShared: false, IsWritable: false, IsExecutable: true });
    }

    [Fact]
    public void The_highest_addresses_fit()
    {
        MemoryMapping m = MemoryMapping.TryParse("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]")!;
        Assert.Equal(0xffffffffff600000, m.Start);
        Assert.Equal(0x1000ul, m.Length);
    }

    [Theory]
    [InlineData("")]
    [InlineData("1000-2000")]
    [InlineData("1000-2000 rw-p 0 00:00")]
    [InlineData("1000 rw-p 00000000 00:00 0")]
    [InlineData("1000-xyz rw-p 00000000 00:00 0")]
    [InlineData("-2000 rw-p 00000000 00:00 0")]
    [InlineData("1000-2000 rw- 00000000 00:00 0")]
    [InlineData("1000-2000 rw-p offset 00:00 0")]
    [InlineData("1000-2000 rw-p 00000000 00:00 -1")]
    [InlineData("10000000000000000-2 rw-p 00000000 00:00 0")]
    public void Other_lines_are_none(string line) => Assert.Null(MemoryMapping.TryParse(line));

    [Fact]
    public unsafe void Our_own_memory_is_found()
    {
        int here = 1;
        ulong address = (ulong)&here;
        using ProcessEntry self = ProcessEntry.Open(Environment.ProcessId);
        Assert.Contains(MemoryMapping.Read(self), m => m.Start <= address && address < m.End && m is { IsWritable: true, IsShared: false });
    }
}
