using System.Diagnostics;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.NodeAgent.Tests.Capture;

public sealed class MemoryChangeTests
{
    private const ulong At = 0x7f00_0000_0000;

    [Theory]
    [InlineData(0, 64, true)]
    [InlineData(0, 63, false)]
    [InlineData(1, 64, false)]
    public void A_block_is_gone_when_a_part_of_it_is(int first, int last, bool there)
    {
        // The kernel splits a mapping where only a part of it is registered on a userfaultfd.
        MemoryMapping[] maps = [Mapping(-9, -8), Mapping(first, 20), Mapping(20, last), Mapping(90, 91)];
        Assert.Equal(there ? null : "mem", MemoryChange.FirstGone(maps, [Block()])?.Name);
    }

    [Theory]
    [InlineData("rw-p", 0u, true)]
    [InlineData("rw-s", 0u, false)]
    [InlineData("rw-p", 7u, false)]
    public void What_else_is_mapped_in_its_place_is_not_the_block(string permissions, uint inode, bool there)
    {
        MemoryMapping mapping = Mapping(0, 64) with { Permissions = permissions, Inode = inode };
        Assert.Equal(there, MemoryChange.FirstGone([mapping], [Block()]) is null);
    }

    [Fact]
    public async Task A_process_that_has_ended_is_named_and_no_kernel_or_right_is_blamed()
    {
        using Process sleeper = Process.Start("sleep", "1000");
        using CheckedProcess held = CheckedProcess.Open(sleeper.Id);
        EngineUnavailableException error = new("ptrace is denied: run as root");
        Assert.Null(MemoryChange.Behind(error, held, []));
        Assert.False(RestoreTarget.HasEnded(held, TimeSpan.Zero));

        sleeper.Kill();
        await sleeper.WaitForExitAsync();

        Assert.Equal("QemuGone", MemoryChange.Behind(error, held, [])?.Reason);
        Assert.Equal("QemuGone", MemoryChange.Behind(new RefusedException("KernelTooOld", "x"), held, [])?.Reason);
        Assert.Null(MemoryChange.Behind(new OperationCanceledException(), held, []));
        Assert.True(RestoreTarget.HasEnded(held, TimeSpan.Zero));
    }

    private static MemoryMapping Mapping(int first, int end) =>
        new((ulong)((long)At + ((long)first << 12)), (ulong)((long)At + ((long)end << 12)), "rw-p", 0, "00:00", 0, "");

    private static RamBlock Block() => new("mem", At, 64 << 12, 4096, RamKind.Anonymous, Mapping(0, 64));
}
