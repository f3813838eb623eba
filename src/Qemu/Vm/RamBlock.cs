using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Qemu.Vm;

/// <summary>The kind of a RAM block's memory in the kernel, which decides how we read it and in what units we release it.</summary>
public enum RamKind
{
    /// <summary>Private anonymous memory, with or without transparent huge pages.</summary>
    Anonymous,

    /// <summary>A shared mapping of a memfd or tmpfs file: read through the file.</summary>
    SharedMemory,

    /// <summary>A shared mapping of hugetlbfs: read through the file, released in whole huge pages.</summary>
    SharedHugetlb,

    /// <summary>A private mapping of a tmpfs file or memfd.</summary>
    PrivateMemory,

    /// <summary>A private mapping of hugetlbfs, as from <c>memory-backend-file,mem-path=/dev/hugepages</c>.</summary>
    PrivateHugetlb,
}

/// <summary>A line of HMP <c>info ramblock</c> (ram_block_format() in QEMU's physmem.c).</summary>
/// <param name="Name">QEMU's id of the block, such as <c>pc.ram</c>.</param>
/// <param name="PageSize">Page size of its memory on the host, bytes.</param>
/// <param name="Offset">Its ram_addr_t, bytes.</param>
/// <param name="UsedLength">Bytes in use, which a migration transfers.</param>
/// <param name="MaxLength">Bytes reserved.</param>
/// <param name="HostAddress">Address in QEMU; 0: QEMU is older than 8.0 and does not report it.</param>
public sealed record RamBlockLine(string Name, uint PageSize, ulong Offset, ulong UsedLength, ulong MaxLength, ulong HostAddress)
{
    /// <summary>Where the block's own record was found in QEMU's memory; 0: QEMU itself reported the address.</summary>
    internal ulong FoundAt { get; init; }
}

/// <summary>A RAM block of a running QEMU, found in its address space.</summary>
/// <param name="Name">QEMU's id of the block.</param>
/// <param name="HostAddress">Where it begins in QEMU's address space.</param>
/// <param name="UsedLength">Bytes in use, a multiple of 4096.</param>
/// <param name="PageSize">Page size of its memory on the host, bytes.</param>
/// <param name="Kind">What its memory is.</param>
/// <param name="Mapping">The mapping that holds it.</param>
public sealed record RamBlock(string Name, ulong HostAddress, ulong UsedLength, uint PageSize, RamKind Kind, MemoryMapping Mapping)
{
    /// <summary>Whether the memory belongs to hugetlbfs.</summary>
    public bool IsHugetlb => Kind is RamKind.SharedHugetlb or RamKind.PrivateHugetlb;

    /// <summary>Whether we read the memory through its file, which never populates a page.</summary>
    public bool IsReadThroughFile => Kind is RamKind.SharedMemory or RamKind.SharedHugetlb;

    /// <summary>Offset of the block's first byte in its file.</summary>
    public ulong FileOffset => Mapping.Offset + (HostAddress - Mapping.Start);

    /// <summary>Opens the file behind shared memory, for reading.</summary>
    /// <exception cref="LinuxException">We may not open it (CAP_CHECKPOINT_RESTORE), or the process has ended.</exception>
    internal SafeFileHandle OpenFile(ProcessEntry process)
    {
        string link = $"map_files/{Mapping.Start:x}-{Mapping.End:x}";
        int fd = Libc.Open(process.At(link), Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        return fd >= 0
            ? new SafeFileHandle(fd, true)
            : throw LinuxException.Last($"open the memory file of RAM block {Name} (/proc/{process.Pid}/{link})");
    }
}
