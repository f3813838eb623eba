using System.Runtime.InteropServices;
using Bgsnap.Engine.Restore;
using Bgsnap.Engine.Restore.Instant;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;
using AgentLibc = Bgsnap.Linux.Libc;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>
/// A page discarded while memory follows is zero from then on, whether it had arrived or not. Memory of this process stands in for QEMU's;
/// only system calls read and discard it, because a .NET thread that waits in a fault would block the garbage collector.
/// </summary>
public class DiscardedPagesTests
{
    private const int Page = 4096,
        MadvDontneed = 4;
    private const long SysMemfdCreate = 319,
        AllowSealing = 2;

    [SkippableFact]
    public async Task A_page_that_was_thrown_away_does_not_come_back()
    {
        Requirements.NeedUserfaultfd();
        await using var source = await Requirements.StartAsync(new VirtualMachineOptions { MemoryMiB = 64, Guest = new FirmwareGuest() });
        await source.StopVcpusAsync();
        using (var memory = await source.OpenMemoryAsync())
            memory.Write(16 << 20, [.. Enumerable.Range(0, 2 << 20).Select(i => (byte)(i / Page % 251 + 1))]);
        var snapshot = await Agent.CaptureAsync(source, "snapshot");
        using var log = PageLogReader.Open(Path.Combine(snapshot.Output, "memory"));

        Check(log);
        CheckInbox(log);
    }

    /// <summary>
    /// The kernel lets a discard continue as soon as its message is read. A process that dies right after that has recorded nothing, and
    /// yet the next process must know of the discard.
    /// </summary>
    private static unsafe void CheckInbox(PageLogReader log)
    {
        int index = Enumerable.Range(0, log.Blocks.Count).MaxBy(i => log.Blocks[i].UsedLength);
        nuint length = (nuint)log.Blocks[index].UsedLength;
        byte* memory = NativeMemoryMap.Allocate(length);
        using Userfaultfd uffd = OwnUserfaultfd.Open();
        Assert.True(uffd.TryEnable(KeptDescriptors.Features));
        LazyBlock[] blocks = [new(index, log.Blocks[index].Name, (ulong)memory, length, Page, 0)];
        using SafeFileHandle file = CreateMemory();
        nint discarded = (nint)memory + (16 << 20) + 3 * Page;
        using (LazyRam dead = LazyRam.Create(SharedState.Create(file, LazyRam.SizeOf(1, blocks[0].Units)), blocks, log))
        {
            foreach (var (start, end) in dead.Registered)
                uffd.RegisterMissing(start, end - start);
            Thread guest = new(() => Discard((byte*)discarded, Page));
            guest.Start();
            while (uffd.Read(dead.Inbox, LazyRam.InboxCapacity) == 0)
                Thread.Sleep(1);
            guest.Join();
        }

        using LazyRam ram = LazyRam.Open(SharedState.TryOpen(file)!, log);
        using PidFd self = PidFd.Open(Environment.ProcessId);
        using (LazyServer server = new(uffd, self, ram, log, new RestoreProgress(), 0, [], new StartRecorder(), () => { }))
        {
            server.Start();
            server.StartFetching();
            server.WaitUntilResident(CancellationToken.None);
            for (int i = 2; i <= 4; i++)
                Assert.Equal(i == 3 ? 0 : i + 1, Read((byte*)discarded + (i - 3) * Page));
            foreach (var (start, end) in ram.Registered)
                Assert.True(uffd.TryUnregister(start, end - start));
        }

        NativeMemoryMap.Free(memory, length);
    }

    private static unsafe void Check(PageLogReader log)
    {
        int index = Enumerable.Range(0, log.Blocks.Count).MaxBy(i => log.Blocks[i].UsedLength);
        nuint length = (nuint)log.Blocks[index].UsedLength;
        byte* memory = NativeMemoryMap.Allocate(length);
        using Userfaultfd uffd = OwnUserfaultfd.Open();
        Assert.True(uffd.TryEnable(KeptDescriptors.Features));
        LazyBlock[] blocks = [new(index, log.Blocks[index].Name, (ulong)memory, length, Page, 0)];
        using SafeFileHandle file = CreateMemory();
        using LazyRam ram = LazyRam.Create(SharedState.Create(file, LazyRam.SizeOf(1, blocks[0].Units)), blocks, log);
        foreach (var (start, end) in ram.Registered)
            uffd.RegisterMissing(start, end - start);
        using PidFd self = PidFd.Open(Environment.ProcessId);
        using (LazyServer server = new(uffd, self, ram, log, new RestoreProgress(), 0, [], new StartRecorder(), () => { }))
        {
            server.Start();
            byte* came = memory + (17 << 20),
                toCome = memory + (16 << 20);
            Assert.Equal(256 % 251 + 1, Read(came)); // all of its 64 KiB has arrived
            Discard(came + 3 * Page, 2 * Page);
            Discard(toCome + 3 * Page, 2 * Page);

            server.StartFetching();
            server.WaitUntilResident(CancellationToken.None);

            foreach (var (at, first) in new[] { ((nint)came, 256), ((nint)toCome, 0) })
            {
                for (int i = 0; i < 16; i++)
                    Assert.Equal(i is 3 or 4 ? 0 : (first + i) % 251 + 1, Read((byte*)at + i * Page));
            }

            // Otherwise unmapping would wait until somebody reads the userfaultfd.
            foreach (var (start, end) in ram.Registered)
                Assert.True(uffd.TryUnregister(start, end - start));
        }

        NativeMemoryMap.Free(memory, length);
    }

    private static unsafe int Read(byte* at)
    {
        byte value;
        using var self = CheckedProcess.Open(Environment.ProcessId);
        ProcessMemory.Read(self, (ulong)at, &value, 1);
        return value;
    }

    private static unsafe void Discard(byte* at, nuint length) => Assert.Equal(0, AgentLibc.MAdvise(at, length, MadvDontneed));

    private static unsafe SafeFileHandle CreateMemory()
    {
        fixed (byte* name = "bgsnap-test\0"u8)
        {
            long fd = AgentLibc.Syscall(SysMemfdCreate, (long)name, AllowSealing, 0, 0, 0, 0);
            Assert.True(fd >= 0, Marshal.GetLastPInvokeErrorMessage());
            return new SafeFileHandle((nint)fd, true);
        }
    }
}
