using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.NodeAgent.Tests.Linux;

/// <summary>The agent never takes another process for one that has ended, even if it has the same pid.</summary>
public sealed unsafe class CheckedProcessTests
{
    private const int Tries = 500;

    [Fact]
    public void What_is_looked_at_is_its_own_or_nothing()
    {
        using Process sleep = Process.Start("sleep", "1000");
        using CheckedProcess held = CheckedProcess.Open(sleep.Id);
        Assert.Equal("sleep", File.ReadAllText(held.At("comm")).Trim());
        Assert.NotEmpty(held.Descriptors());
        End(sleep);
        Assert.ThrowsAny<IOException>(() => File.ReadAllText(held.At("comm")));
        Assert.ThrowsAny<IOException>(() => held.OpenMemory().Dispose());
        Assert.Equal(Errno.ESRCH, Assert.Throws<LinuxException>(held.ThrowIfEnded).Errno);
        Assert.Null(CheckedProcess.TryOpen(0));
        held.Dispose();
        Assert.Throws<ObjectDisposedException>(() => held.At("comm"));
    }

    /// <summary>The test makes the kernel reuse the pid, as it does by itself some ten thousand processes later.</summary>
    [SkippableFact]
    public void A_process_that_has_got_its_number_is_not_read_written_held_or_signalled()
    {
        Skip.IfNot(
            File.Exists("/proc/sys/kernel/ns_last_pid") && Environment.UserName == "root",
            "The kernel takes no wishes for numbers."
        );
        using Process first = Process.Start("sleep", "1000");
        using CheckedProcess held = CheckedProcess.Open(first.Id);
        SyscallGadget gadget = SyscallGadget.Find(held);
        ulong stack = MemoryMapping.Read(held).Single(m => m.Path == "[stack]").Start;
        int pid = first.Id;
        End(first);
        using Process second = WithNumber(pid) ?? throw new SkipException("Others took the number again and again.");
        try
        {
            Assert.ThrowsAny<IOException>(() => MemoryMapping.Read(held));
            Assert.ThrowsAny<IOException>(() => held.Descriptors().ToArray());
            Assert.ThrowsAny<IOException>(() => Pagemap.Open(held).Dispose());
            Assert.ThrowsAny<IOException>(() => OpenInRoot.RootOf(held).Dispose());
            Assert.ThrowsAny<IOException>(() => Credentials.Of(held));
            Assert.ThrowsAny<IOException>(() => SyscallGadget.Find(held));
            Assert.False(ContainerProcesses.IsIn(held, new string('a', 64)));
            Assert.Null(HeldDevices.Of(held));
            Assert.ThrowsAny<IOException>(() =>
            {
                _ = ReadAt(held, stack);
            });
            Assert.Equal(0, ProcessMemory.TryRead(held, stack, new byte[8]));
            Assert.ThrowsAny<IOException>(() => held.OpenMemory().Dispose());
            Assert.Equal(
                Errno.ESRCH,
                Assert.Throws<LinuxException>(() => RemoteThread.Hold(held, gadget, _ => Assert.Fail("it was held"))).Errno
            );
            held.Signal(9);
            Assert.False(second.WaitForExit(200), "it was signalled");
        }
        finally
        {
            End(second);
        }
    }

    [Fact]
    public void A_child_is_signalled_while_it_lives()
    {
        using Process sleep = Process.Start("sleep", "1000");
        using CheckedProcess held = CheckedProcess.TryOpen(sleep)!;
        held.Signal(9);
        Assert.True(sleep.WaitForExit(10_000));
        held.Signal(9);
        Assert.Null(CheckedProcess.TryOpen(sleep));
        held.Dispose();
        held.Signal(9);
    }

    [Fact]
    public void Its_memory_is_written_while_it_lives_and_nobodys_afterwards()
    {
        using Process sleep = Process.Start("sleep", "1000");
        using CheckedProcess held = CheckedProcess.Open(sleep.Id);
        using ForeignMemory memory = held.OpenMemory();
        ulong stack = MemoryMapping.Read(held).Single(m => m.Path == "[stack]").Start;
        byte* bytes = (byte*)NativeMemory.Alloc(8);
        try
        {
            *(ulong*)bytes = 0x1122334455667788;
            Assert.True(memory.CanRead(stack));
            memory.Write(stack, bytes, 8);
            Assert.Equal(0x1122334455667788UL, ReadAt(held, stack));

            End(sleep);
            Assert.False(memory.CanRead(stack));
            Assert.ThrowsAny<IOException>(() => memory.Write(stack, bytes, 8));
        }
        finally
        {
            NativeMemory.Free(bytes);
        }
    }

    private static ulong ReadAt(CheckedProcess process, ulong address)
    {
        ulong there = 0;
        ProcessMemory.Read(process, address, (byte*)&there, sizeof(ulong));
        return there;
    }

    private static void End(Process process)
    {
        process.Kill();
        process.WaitForExit();
    }

    /// <summary>Starts a process with this free pid; null: other processes were faster each time.</summary>
    private static Process? WithNumber(int pid)
    {
        for (int i = 0; i < Tries; i++)
        {
            File.WriteAllText("/proc/sys/kernel/ns_last_pid", (pid - 1).ToString(CultureInfo.InvariantCulture));
            Process made = Process.Start("sleep", "1000");
            if (made.Id == pid)
                return made;
            using (made)
                End(made);
        }
        return null;
    }
}
