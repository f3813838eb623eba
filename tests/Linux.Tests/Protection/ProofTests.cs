using AgentLibc = Bgsnap.Linux.Libc;

namespace Bgsnap.Linux.Tests.Protection;

/// <summary>
/// Checks the kernel's answers about protected memory, in memory of our own: the proof that a capture rests on, by both methods.
/// </summary>
public unsafe class ProofTests
{
    private const int Bytes = 4 * OwnMemory.HugePage,
        Half = Bytes / 2;

    public enum Kind
    {
        SmallPages,
        HugePages,
        SharedFile,
    }

    [SkippableTheory]
    [InlineData(Kind.SmallPages)]
    [InlineData(Kind.HugePages)]
    [InlineData(Kind.SharedFile)]
    public void Protected_memory_is_proved_whether_it_exists_or_not(Kind kind)
    {
        using OwnMemory m = Make(kind);
        using var self = ProcessEntry.Open(Environment.ProcessId);
        using Pagemap pagemap = Pagemap.Open(self);
        AssertFirst(m, pagemap, 0, Bytes, 0);

        Assert.True(m.Uffd.TryProtect(m.Address, Bytes));
        AssertFirst(m, pagemap, 0, Bytes, Bytes);
        // Reading a missing page creates it, protected.
        Assert.Equal(0, m.Start[Half + OwnMemory.HugePage]);
        AssertFirst(m, pagemap, Half, Bytes, Bytes);
    }

    /// <summary>A page in the middle, the first page, the last one, and a single page.</summary>
    [SkippableTheory]
    [InlineData(Kind.SmallPages)]
    [InlineData(Kind.HugePages)]
    [InlineData(Kind.SharedFile)]
    public void One_page_that_is_not_protected_is_found(Kind kind)
    {
        using OwnMemory m = Make(kind);
        using var self = ProcessEntry.Open(Environment.ProcessId);
        using Pagemap pagemap = Pagemap.Open(self);
        const int granule = 65536;
        foreach (int open in (int[])[0, 5 * OwnMemory.Page, granule - OwnMemory.Page])
        {
            Assert.True(m.Uffd.TryProtect(m.Address, Bytes));
            Assert.True(m.Uffd.TryUnprotect(m.Address + (ulong)open, OwnMemory.Page));
            AssertFirst(m, pagemap, 0, granule, open);
            AssertFirst(m, pagemap, 0, Bytes, open);
            AssertFirst(m, pagemap, open, open + OwnMemory.Page, open);
            AssertFirst(m, pagemap, granule, Bytes, Bytes);
            Assert.Equal(LostPage.Writable, pagemap.Lost(m.Address + (ulong)open));
        }
    }

    /// <summary>Neither the hole nor the page that a reader maps into it counts as protected.</summary>
    [SkippableTheory]
    [InlineData(Kind.SmallPages)]
    [InlineData(Kind.HugePages)]
    public void Memory_that_was_thrown_away_is_not_proved_and_known_for_what_it_is(Kind kind)
    {
        using OwnMemory m = Make(kind);
        using var self = ProcessEntry.Open(Environment.ProcessId);
        using Pagemap pagemap = Pagemap.Open(self);
        Assert.True(m.Uffd.TryProtect(m.Address, Bytes));
        Assert.Equal(0, AgentLibc.MAdvise(m.Start + OwnMemory.HugePage, OwnMemory.HugePage, OwnMemory.MADV_DONTNEED));

        AssertFirst(m, pagemap, 0, Bytes, OwnMemory.HugePage);
        Assert.Equal(LostPage.Discarded, pagemap.Lost(m.Address + OwnMemory.HugePage));
        Assert.Equal(0, m.Start[OwnMemory.HugePage]);
        AssertFirst(m, pagemap, 0, Bytes, OwnMemory.HugePage);
        Assert.Equal(LostPage.Discarded, pagemap.Lost(m.Address + OwnMemory.HugePage));
    }

    [SkippableFact]
    public void The_proof_allocates_nothing()
    {
        using OwnMemory m = Make(Kind.SmallPages);
        using var self = ProcessEntry.Open(Environment.ProcessId);
        using Pagemap pagemap = Pagemap.Open(self);
        Assert.True(m.Uffd.TryProtect(m.Address, Bytes));
        AssertFirst(m, pagemap, 0, Bytes, Bytes);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
        {
            _ = pagemap.FirstUnprotectedByScan(m.Address, m.Address + Bytes);
            _ = pagemap.FirstUnprotectedByEntries(m.Address, m.Address + Bytes);
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static OwnMemory Make(Kind kind)
    {
        Requirements.NeedUserfaultfd();
        OwnMemory m = kind switch
        {
            Kind.SmallPages => OwnMemory.Anonymous(Bytes, OwnMemory.MADV_NOHUGEPAGE),
            Kind.HugePages => OwnMemory.Anonymous(Bytes, AgentLibc.MADV_HUGEPAGE),
            _ => OwnMemory.Shared(Bytes),
        };
        // The upper half stays missing.
        new Span<byte>(m.Start, Half).Fill(7);
        m.Register(Bytes);
        return m;
    }

    private static void AssertFirst(OwnMemory m, Pagemap pagemap, int from, int to, int expected)
    {
        if (pagemap.SeesHugePages)
            Assert.Equal(expected, (long)(pagemap.FirstUnprotectedByScan(m.Address + (ulong)from, m.Address + (ulong)to) - m.Address));
        Assert.Equal(expected, (long)(pagemap.FirstUnprotectedByEntries(m.Address + (ulong)from, m.Address + (ulong)to) - m.Address));
    }
}
