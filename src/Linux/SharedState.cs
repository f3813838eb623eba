using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>
/// A memfd of fixed length that outlives us in another process and is mapped here: memfd_create(2), flock(2), F_ADD_SEALS.
/// </summary>
internal sealed unsafe class SharedState : IDisposable
{
    private const int F_ADD_SEALS = 1033,
        F_GET_SEALS = 1034;
    private const int SealShrink = 2,
        SealGrow = 4;
    private const int MapShared = 1;

    private readonly SafeFileHandle _file;

    private SharedState(SafeFileHandle file, byte* bytes, long length)
    {
        (_file, Length) = (file, length);
        Bytes = bytes;
    }

    /// <summary>The mapped bytes, valid until disposed.</summary>
    internal byte* Bytes { get; }

    /// <summary>The number of bytes.</summary>
    internal long Length { get; }

    /// <summary>Gives a new, empty memfd its final length and maps it.</summary>
    /// <param name="memory">The memfd, created with MFD_ALLOW_SEALING.</param>
    /// <param name="length">Bytes, all zero at first.</param>
    /// <exception cref="LinuxException">EBUSY: another process of ours is using it.</exception>
    internal static SharedState Create(SafeFileHandle memory, long length)
    {
        SafeFileHandle file = OwnDescription(memory);
        try
        {
            RandomAccess.SetLength(file, length);
            if (Libc.Fcntl(file, F_ADD_SEALS, SealShrink | SealGrow) < 0)
                throw LinuxException.Last("seal the state of a restore");
            return Map(file, length);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Opens a memfd that another process of ours has left.</summary>
    /// <param name="memory">The memfd.</param>
    /// <returns>Null if it never got its length.</returns>
    /// <exception cref="LinuxException">EBUSY: another process of ours is using it.</exception>
    internal static SharedState? TryOpen(SafeFileHandle memory)
    {
        SafeFileHandle file = OwnDescription(memory);
        try
        {
            // Without the seal its other holder could truncate it while we use it, which would kill us.
            bool whole = (Libc.Fcntl(file, F_GET_SEALS, 0) & SealShrink) != 0;
            long length = RandomAccess.GetLength(file);
            if (whole && length > 0)
                return Map(file, length);
            file.Dispose();
            return null;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>
    /// A separate, locked open file description: the lock ends with this process, even if another process still holds the memfd.
    /// </summary>
    private static SafeFileHandle OwnDescription(SafeFileHandle memory)
    {
        SafeFileHandle file = FileSyscalls.OpenAt(null, OpenInRoot.PathOf(memory), FileSyscalls.O_RDWR);
        int errno = FileSyscalls.TryLock(file);
        if (errno == 0)
            return file;
        file.Dispose();
        throw new LinuxException("take the state of a restore", errno == Errno.EAGAIN ? Errno.EBUSY : errno);
    }

    private static SharedState Map(SafeFileHandle file, long length)
    {
        void* p = Libc.MMap(null, (nuint)length, Libc.PROT_READ | Libc.PROT_WRITE, MapShared, (int)file.DangerousGetHandle(), 0);
        return p != Libc.MAP_FAILED ? new SharedState(file, (byte*)p, length) : throw LinuxException.Last("map the state of a restore");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemoryMap.Free(Bytes, (nuint)Length);
        _file.Dispose();
    }
}
