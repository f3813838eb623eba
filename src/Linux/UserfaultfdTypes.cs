using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>Features of UFFDIO_API; include/uapi/linux/userfaultfd.h.</summary>
[Flags]
internal enum UffdFeatures : ulong
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>A fault message says whether it is a write-protection fault (Linux 5.7).</summary>
    PagefaultFlagWp = 1 << 0,

    /// <summary>madvise(MADV_DONTNEED/REMOVE) in a registered range is announced before it happens (Linux 4.11).</summary>
    EventRemove = 1 << 3,

    /// <summary>munmap(2) of a registered range is announced (Linux 4.11).</summary>
    EventUnmap = 1 << 6,

    /// <summary>Write protection of hugetlbfs and shmem (Linux 5.19).</summary>
    WpHugetlbfsShmem = 1 << 12,

    /// <summary>Missing pages can be protected too (Linux 6.4).</summary>
    WpUnpopulated = 1 << 13,

    /// <summary>The kernel itself resolves faults, for dirty tracking (Linux 6.7).</summary>
    WpAsync = 1 << 15,
}

/// <summary>Numbers of include/uapi/linux/userfaultfd.h, x86-64.</summary>
internal static class UffdConstants
{
    /// <summary>UFFD_API.</summary>
    public const ulong Api = 0xAA;

    /// <summary>UFFDIO_API.</summary>
    public const ulong UFFDIO_API = 0xC018AA3F;

    /// <summary>UFFDIO_REGISTER.</summary>
    public const ulong UFFDIO_REGISTER = 0xC020AA00;

    /// <summary>UFFDIO_UNREGISTER.</summary>
    public const ulong UFFDIO_UNREGISTER = 0x8010AA01;

    /// <summary>UFFDIO_WAKE.</summary>
    public const ulong UFFDIO_WAKE = 0x8010AA02;

    /// <summary>UFFDIO_COPY.</summary>
    public const ulong UFFDIO_COPY = 0xC028AA03;

    /// <summary>UFFDIO_REGISTER_MODE_MISSING.</summary>
    public const ulong RegisterModeMissing = 1 << 0;

    /// <summary>UFFDIO_WRITEPROTECT.</summary>
    public const ulong UFFDIO_WRITEPROTECT = 0xC018AA06;

    /// <summary>_UFFDIO_WRITEPROTECT, its bit in the answer of UFFDIO_REGISTER.</summary>
    public const int WriteProtectNumber = 6;

    /// <summary>USERFAULTFD_IOC_NEW on /dev/userfaultfd.</summary>
    public const ulong USERFAULTFD_IOC_NEW = 0xAA00;

    /// <summary>UFFDIO_REGISTER_MODE_WP.</summary>
    public const ulong RegisterModeWp = 1 << 1;

    /// <summary>UFFDIO_WRITEPROTECT_MODE_WP.</summary>
    public const ulong WriteProtectModeWp = 1 << 0;

    /// <summary>UFFD_EVENT_PAGEFAULT.</summary>
    public const byte EventPagefault = 0x12;

    /// <summary>UFFD_EVENT_REMOVE.</summary>
    public const byte EventRemove = 0x15;

    /// <summary>UFFD_EVENT_UNMAP.</summary>
    public const byte EventUnmap = 0x16;
}

/// <summary>struct uffdio_api.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UffdioApi
{
    /// <summary>api.</summary>
    public ulong Api;

    /// <summary>features.</summary>
    public ulong Features;

    /// <summary>ioctls.</summary>
    public ulong Ioctls;
}

/// <summary>struct uffdio_range.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UffdioRange
{
    /// <summary>start.</summary>
    public ulong Start;

    /// <summary>len.</summary>
    public ulong Length;
}

/// <summary>struct uffdio_register.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UffdioRegister
{
    /// <summary>range.start.</summary>
    public ulong Start;

    /// <summary>range.len.</summary>
    public ulong Length;

    /// <summary>mode.</summary>
    public ulong Mode;

    /// <summary>ioctls: the operations that the range supports.</summary>
    public ulong Ioctls;
}

/// <summary>struct uffdio_copy.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UffdioCopy
{
    /// <summary>dst, in the memory of the context.</summary>
    public ulong Destination;

    /// <summary>src, in the caller's memory.</summary>
    public ulong Source;

    /// <summary>len.</summary>
    public ulong Length;

    /// <summary>mode.</summary>
    public ulong Mode;

    /// <summary>copy: bytes that were copied, or a negative error number.</summary>
    public long Copied;
}

/// <summary>struct uffdio_writeprotect.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UffdioWriteProtect
{
    /// <summary>range.start.</summary>
    public ulong Start;

    /// <summary>range.len.</summary>
    public ulong Length;

    /// <summary>mode.</summary>
    public ulong Mode;
}

/// <summary>struct uffd_msg: a fault, or a change of the address space.</summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
internal struct UffdMessage
{
    /// <summary>event.</summary>
    [FieldOffset(0)]
    public byte Event;

    /// <summary>arg.pagefault.flags.</summary>
    [FieldOffset(8)]
    public ulong PagefaultFlags;

    /// <summary>arg.pagefault.address.</summary>
    [FieldOffset(16)]
    public ulong PagefaultAddress;

    /// <summary>arg.remove.start.</summary>
    [FieldOffset(8)]
    public ulong RemoveStart;

    /// <summary>arg.remove.end.</summary>
    [FieldOffset(16)]
    public ulong RemoveEnd;
}
