namespace Bgsnap.Linux;

/// <summary>Zeroed memory straight from the kernel: page-aligned, outside the garbage collector, untouched parts cost nothing.</summary>
internal static unsafe class NativeMemoryMap
{
    /// <param name="bytes">Length; rounded up to whole pages.</param>
    internal static byte* Allocate(nuint bytes)
    {
        const int flags = Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_NORESERVE;
        void* p = Libc.MMap(null, bytes, Libc.PROT_READ | Libc.PROT_WRITE, flags, -1, 0);
        return p != Libc.MAP_FAILED ? (byte*)p : throw LinuxException.Last($"allocate {bytes} bytes");
    }

    /// <summary>Reserves address space for memory in huge pages, if the machine has them; <see cref="Populate"/> populates it.</summary>
    internal static byte* Reserve(nuint bytes)
    {
        byte* p = Allocate(bytes);
        _ = Libc.MAdvise(p, bytes, Libc.MADV_HUGEPAGE);
        return p;
    }

    /// <summary>Has the kernel allocate the pages of a range now.</summary>
    internal static void Populate(byte* start, nuint bytes)
    {
        if (Libc.MAdvise(start, bytes, Libc.MADV_POPULATE_WRITE) != 0)
            throw LinuxException.Last($"allocate {bytes} bytes");
    }

    internal static void Free(byte* p, nuint bytes) => _ = Libc.MUnmap(p, bytes);
}
