using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>Shows which pages of another process exist: PAGEMAP_SCAN (Linux 6.7), or the plain pagemap before that.</summary>
/// <remarks>Documentation/admin-guide/mm/pagemap.rst.</remarks>
internal sealed unsafe partial class Pagemap : IDisposable
{
    private const ulong PAGEMAP_SCAN = 0xC0606610;
    private const ulong Present = 1 << 3,
        Swapped = 1 << 4,
        Huge = 1 << 6;
    private const int RegionCapacity = 1024;
    private const int PageSize = 4096;

    private readonly SafeFileHandle _handle;
    private readonly PageRegion* _regions;
    private readonly int _pid;

    private Pagemap(SafeFileHandle handle, int pid)
    {
        _handle = handle;
        _pid = pid;
        _regions = (PageRegion*)NativeMemory.Alloc(RegionCapacity, (nuint)sizeof(PageRegion));
        PmScanArgument probe = new()
        {
            Size = (ulong)sizeof(PmScanArgument),
            VectorLength = RegionCapacity,
            Vector = (ulong)_regions,
            ReturnMask = Present,
            CategoryAnyOfMask = Present,
        };
        SeesHugePages = Libc.Ioctl((int)handle.DangerousGetHandle(), PAGEMAP_SCAN, &probe) >= 0 && !TestHooks.Is("deny", "pagemap-scan");
    }

    /// <summary>Whether the kernel distinguishes huge pages from small ones.</summary>
    internal bool SeesHugePages { get; }

    internal static Pagemap Open(ProcessEntry process)
    {
        int fd = Libc.Open(process.At("pagemap"), Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        return fd >= 0
            ? new Pagemap(new SafeFileHandle(fd, true), process.Pid)
            : throw LinuxException.Last($"open /proc/{process.Pid}/pagemap");
    }

    /// <summary>Visits every run of existing (present or swapped) pages in a range.</summary>
    /// <param name="start">First address.</param>
    /// <param name="end">Address after the last.</param>
    /// <param name="visit">Called with start, end and whether the run is mapped by huge pages.</param>
    internal void Scan(ulong start, ulong end, Action<ulong, ulong, bool> visit)
    {
        if (SeesHugePages)
            ScanRegions(start, end, visit);
        else
            ScanEntries(start, end, visit);
    }

    private void ScanRegions(ulong start, ulong end, Action<ulong, ulong, bool> visit)
    {
        while (start < end)
        {
            PmScanArgument a = new()
            {
                Size = (ulong)sizeof(PmScanArgument),
                Start = start,
                End = end,
                Vector = (ulong)_regions,
                VectorLength = RegionCapacity,
                CategoryAnyOfMask = Present | Swapped,
                ReturnMask = Huge,
            };
            int got = Libc.Ioctl((int)_handle.DangerousGetHandle(), PAGEMAP_SCAN, &a);
            if (got < 0)
                throw LinuxException.Last($"PAGEMAP_SCAN of process {_pid}");
            for (int i = 0; i < got; i++)
                visit(_regions[i].Start, _regions[i].End, (_regions[i].Categories & Huge) != 0);
            if (a.WalkEnd <= start)
                break;
            start = a.WalkEnd;
        }
    }

    private void ScanEntries(ulong start, ulong end, Action<ulong, ulong, bool> visit)
    {
        const ulong exists = 3UL << 62;
        ulong* entries = (ulong*)_regions;
        int capacity = RegionCapacity * sizeof(PageRegion) / sizeof(ulong);
        ulong stretch = 0;
        for (ulong at = start; at < end; )
        {
            int want = (int)Math.Min((ulong)capacity, (end - at) / PageSize);
            nint got = Libc.PRead(_handle, entries, (nuint)(want * sizeof(ulong)), (long)(at / PageSize * sizeof(ulong)));
            if (got <= 0)
                throw LinuxException.Last($"read /proc/{_pid}/pagemap");
            for (int i = 0; i < got / sizeof(ulong); i++, at += PageSize)
            {
                bool there = (entries[i] & exists) != 0;
                if (there && stretch == 0)
                    stretch = at;
                if (!there && stretch != 0)
                {
                    visit(stretch, at, false);
                    stretch = 0;
                }
            }
        }
        if (stretch != 0)
            visit(stretch, end, false);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free(_regions);
        _handle.Dispose();
    }

    /// <summary>struct page_region.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct PageRegion
    {
        internal ulong Start,
            End,
            Categories;
    }

    /// <summary>struct pm_scan_arg.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct PmScanArgument
    {
        internal ulong Size,
            Flags,
            Start,
            End,
            WalkEnd,
            Vector,
            VectorLength,
            MaxPages;
        internal ulong CategoryInverted,
            CategoryMask,
            CategoryAnyOfMask,
            ReturnMask;
    }
}
