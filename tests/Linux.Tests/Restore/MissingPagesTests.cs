using System.Runtime.InteropServices;
using Bgsnap.Linux.Tests.Harness;
using Microsoft.Win32.SafeHandles;
using AgentLibc = Bgsnap.Linux.Libc;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>The kernel fills missing pages and leaves existing ones, in memory of our own: the basis of an instant restore.</summary>
public unsafe class MissingPagesTests
{
    private const int Page = 4096,
        Pages = 16;

    [SkippableFact]
    public void What_is_missing_is_filled_and_what_exists_stays()
    {
        Requirements.NeedUserfaultfd();
        using Userfaultfd uffd = OwnUserfaultfd.Open();
        Assert.True(uffd.TryEnable(UffdFeatures.EventRemove));
        byte* memory = NativeMemoryMap.Allocate(Pages * Page),
            source = NativeMemoryMap.Allocate(Pages * Page);
        try
        {
            new Span<byte>(source, Pages * Page).Fill(7);
            memory[5 * Page] = 9; // exists already
            uffd.RegisterMissing((ulong)memory, Pages * Page);

            Assert.Equal(Pages * Page, uffd.Copy((ulong)memory, source, Pages * Page, Page));

            for (int i = 0; i < Pages; i++)
                Assert.Equal(i == 5 ? 9 : 7, memory[i * Page]);
            Assert.Equal(Pages * Page, uffd.Copy((ulong)memory, source, Pages * Page, Page));
            Assert.True(uffd.TryUnregister((ulong)memory, Pages * Page));
        }
        finally
        {
            NativeMemoryMap.Free(memory, Pages * Page);
            NativeMemoryMap.Free(source, Pages * Page);
        }
    }

    [SkippableFact]
    public void Memory_that_is_not_registered_is_not_filled()
    {
        Requirements.NeedUserfaultfd();
        using Userfaultfd uffd = OwnUserfaultfd.Open();
        Assert.True(uffd.TryEnable(UffdFeatures.EventRemove));
        byte* memory = NativeMemoryMap.Allocate(Page),
            source = NativeMemoryMap.Allocate(Page);
        try
        {
            Assert.Throws<LinuxException>(() => uffd.Copy((ulong)memory, source, Page, Page));
            Assert.Equal(0, memory[0]);
        }
        finally
        {
            NativeMemoryMap.Free(memory, Page);
            NativeMemoryMap.Free(source, Page);
        }
    }
}
