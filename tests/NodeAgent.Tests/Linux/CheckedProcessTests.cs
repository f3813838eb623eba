using System.Diagnostics;
using System.Runtime.InteropServices;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Tests.Linux;

/// <summary>A process that has ended is never taken for another one, whatever its number is by then.</summary>
public sealed unsafe class CheckedProcessTests
{
    [Fact]
    public void What_is_checked_of_a_process_that_has_ended_does_not_count()
    {
        using Process sleep = Process.Start("sleep", "1000");
        using CheckedProcess held = CheckedProcess.Open(sleep.Id);
        Assert.True(held.Is(pid => pid == sleep.Id));
        Assert.False(held.Is(_ => false));
        sleep.Kill();
        sleep.WaitForExit();
        LinuxException e = Assert.Throws<LinuxException>(() => held.Is(_ => true)); // as if another had its number now
        Assert.Equal(Errno.ESRCH, e.Errno);
        Assert.ThrowsAny<IOException>(() => held.OpenMemory().Dispose());
    }

    [Fact]
    public void Its_memory_is_written_while_it_lives_and_nobodys_afterwards()
    {
        using Process sleep = Process.Start("sleep", "1000");
        using CheckedProcess held = CheckedProcess.Open(sleep.Id);
        using ForeignMemory memory = held.OpenMemory();
        ulong stack = MemoryMapping.Read(sleep.Id).Single(m => m.Path == "[stack]").Start;
        byte* bytes = (byte*)NativeMemory.Alloc(8);
        try
        {
            *(ulong*)bytes = 0x1122334455667788;
            Assert.True(memory.CanRead(stack));
            memory.Write(stack, bytes, 8);
            ulong there = 0;
            ProcessMemory.Read(sleep.Id, stack, (byte*)&there, 8);
            Assert.Equal(0x1122334455667788UL, there);

            sleep.Kill();
            sleep.WaitForExit();
            Assert.False(memory.CanRead(stack));
            Assert.ThrowsAny<IOException>(() => memory.Write(stack, bytes, 8));
        }
        finally
        {
            NativeMemory.Free(bytes);
        }
    }
}
