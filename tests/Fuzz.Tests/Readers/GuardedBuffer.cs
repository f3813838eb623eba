using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Bgsnap.Fuzz.Readers;

/// <summary>Memory with a page behind it that ends the process when it is touched: what writes too far is seen at once.</summary>
internal sealed unsafe partial class GuardedBuffer : IDisposable
{
    private const int PageSize = 4096,
        ReadWrite = 3,
        PrivateAnonymous = 0x22,
        None = 0;
    private readonly byte* _mapped;
    private readonly nuint _length;

    /// <param name="size">Bytes; they end right before the guard.</param>
    internal GuardedBuffer(int size)
    {
        nuint room = (nuint)((size + PageSize - 1) / PageSize * PageSize);
        _length = room + PageSize;
        _mapped = (byte*)Map(null, _length, ReadWrite, PrivateAnonymous, -1, 0);
        if ((nint)_mapped == -1 || Protect(_mapped + room, PageSize, None) != 0)
            throw new Win32Exception();
        Pointer = _mapped + room - size;
    }

    /// <summary>Its first byte.</summary>
    internal byte* Pointer { get; }

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial void* Map(void* address, nuint length, int protection, int flags, int fd, nint offset);

    [LibraryImport("libc", EntryPoint = "mprotect", SetLastError = true)]
    private static partial int Protect(void* address, nuint length, int protection);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Unmap(void* address, nuint length);

    /// <inheritdoc/>
    public void Dispose() => _ = Unmap(_mapped, _length);
}
