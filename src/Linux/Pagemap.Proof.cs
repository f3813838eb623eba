namespace Bgsnap.Linux;

/// <summary>What a page that should be write-protected turned out to be.</summary>
internal enum LostPage
{
    /// <summary>There is no page, or the kernel's zero page: its content was discarded.</summary>
    Discarded,

    /// <summary>The page is there and can be written.</summary>
    Writable,
}

/// <summary>Proves that pages are write-protected by a userfaultfd, in constant memory and without allocating.</summary>
/// <remarks>
/// A page counts if it is present, swapped out, or a marker for a missing page, and its write-protect bit is set. A page table entry that
/// was emptied has no such bit, whatever is mapped there later. Any number of threads may ask at once.
/// </remarks>
internal sealed unsafe partial class Pagemap
{
    private const ulong Written = 1 << 1,
        ZeroPage = 1 << 5;
    private const ulong EntryWriteProtected = 1UL << 57;

    /// <summary>Finds the first page of a range that is not proved to be write-protected.</summary>
    /// <returns>Its address, or <paramref name="end"/> if every page is protected.</returns>
    internal ulong FirstUnprotected(ulong start, ulong end) =>
        SeesHugePages ? FirstUnprotectedByScan(start, end) : FirstUnprotectedByEntries(start, end);

    /// <summary>What happened to a page that <see cref="FirstUnprotected"/> found unprotected.</summary>
    internal LostPage Lost(ulong address)
    {
        if (!SeesHugePages)
        {
            ulong entry = Entry(address);
            return (entry >> 62) == 0 ? LostPage.Discarded : LostPage.Writable;
        }
        PageRegion found;
        PmScanArgument a = new()
        {
            Size = (ulong)sizeof(PmScanArgument),
            Start = address,
            End = address + PageSize,
            Vector = (ulong)&found,
            VectorLength = 1,
            CategoryAnyOfMask = Present | Swapped,
            ReturnMask = Present | ZeroPage,
        };
        int got = Libc.Ioctl((int)_handle.DangerousGetHandle(), PAGEMAP_SCAN, &a);
        return got != 1 || (found.Categories & ZeroPage) != 0 ? LostPage.Discarded : LostPage.Writable;
    }

    /// <inheritdoc cref="FirstUnprotected"/>
    internal ulong FirstUnprotectedByScan(ulong start, ulong end)
    {
        // One region of "exists and not written" must begin at the start and extend to the end.
        PageRegion found;
        PmScanArgument a = new()
        {
            Size = (ulong)sizeof(PmScanArgument),
            Start = start,
            End = end,
            Vector = (ulong)&found,
            VectorLength = 1,
            CategoryInverted = Written,
            CategoryMask = Written,
            CategoryAnyOfMask = Present | Swapped,
        };
        int got = Libc.Ioctl((int)_handle.DangerousGetHandle(), PAGEMAP_SCAN, &a);
        if (got < 0)
            throw LinuxException.Last($"PAGEMAP_SCAN of process {_pid}");
        return got == 0 || found.Start != start ? start : found.End;
    }

    /// <inheritdoc cref="FirstUnprotected"/>
    internal ulong FirstUnprotectedByEntries(ulong start, ulong end)
    {
        const int atOnce = 512;
        ulong* entries = stackalloc ulong[atOnce];
        for (ulong at = start; at < end; )
        {
            int want = (int)Math.Min(atOnce, (end - at) / PageSize);
            nint got = Libc.PRead(_handle, entries, (nuint)(want * sizeof(ulong)), (long)(at / PageSize * sizeof(ulong)));
            if (got <= 0)
                throw LinuxException.Last($"read /proc/{_pid}/pagemap");
            for (int i = 0; i < got / sizeof(ulong); i++, at += PageSize)
            {
                if ((entries[i] & EntryWriteProtected) == 0)
                    return at;
            }
        }
        return end;
    }

    private ulong Entry(ulong address)
    {
        ulong entry = 0;
        _ = Libc.PRead(_handle, &entry, sizeof(ulong), (long)(address / PageSize * sizeof(ulong)));
        return entry;
    }
}
