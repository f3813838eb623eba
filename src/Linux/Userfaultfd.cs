using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>
/// A userfaultfd context of another process: write protection of its memory, and the resulting faults. See ioctl_userfaultfd(2) and
/// include/uapi/linux/userfaultfd.h.
/// </summary>
/// <remarks>
/// While this handle is the only reference, the death of this process frees the other one: the kernel unregisters every range and wakes
/// every waiter when the last reference is closed. Any thread may close it at any moment: a call in progress ends first, and later calls
/// throw <see cref="ObjectDisposedException"/>. No call reaches a descriptor that has reused this one's number.
/// </remarks>
internal sealed unsafe partial class Userfaultfd : IDisposable
{
    private readonly SafeFileHandle _handle;
    private readonly int _fd;

    /// <summary>Takes ownership of an open userfaultfd on which UFFDIO_API has not been called.</summary>
    public Userfaultfd(SafeFileHandle handle)
    {
        _handle = handle;
        _fd = (int)handle.DangerousGetHandle();
    }

    /// <summary>The descriptor in this process, for poll(2).</summary>
    public int FileDescriptor => _fd;

    /// <summary>The features the kernel enabled for this context.</summary>
    public UffdFeatures Features { get; private set; }

    /// <summary>Enables the context with exactly these features; a context can be enabled once.</summary>
    /// <returns>False if the kernel lacks one of them (EINVAL); the caller may then ask for fewer.</returns>
    public bool TryEnable(UffdFeatures features)
    {
        UffdioApi api = new() { Api = UffdConstants.Api, Features = (ulong)features };
        if (Libc.Ioctl(_handle, UffdConstants.UFFDIO_API, &api) == 0)
        {
            Features = features;
            return true;
        }
        return Marshal.GetLastPInvokeError() == Errno.EINVAL ? false : throw LinuxException.Last("UFFDIO_API");
    }

    /// <summary>Registers a range for write-protection faults.</summary>
    /// <param name="start">First address in the other process, a multiple of the page size.</param>
    /// <param name="length">Length in bytes, a multiple of the page size.</param>
    /// <exception cref="LinuxException">EBUSY: another context owns a part of the range; EINVAL: this kind of memory cannot be
    /// write-protected; ENOMEM: the process is exiting.</exception>
    public void RegisterWriteProtect(ulong start, ulong length)
    {
        UffdioRegister register = new()
        {
            Start = start,
            Length = length,
            Mode = UffdConstants.RegisterModeWp,
        };
        if (Libc.Ioctl(_handle, UffdConstants.UFFDIO_REGISTER, &register) != 0)
            throw LinuxException.Last($"UFFDIO_REGISTER {start:x}+{length:x}");
        // Only REGISTER answers truthfully: WRITEPROTECT on a range that is not ours returns 0.
        if ((register.Ioctls & (1UL << UffdConstants.WriteProtectNumber)) == 0)
            throw new LinuxException($"UFFDIO_REGISTER {start:x}+{length:x}: no write protection for this memory", Errno.EINVAL);
    }

    /// <summary>Unregisters a range and wakes the threads that wait in it.</summary>
    /// <returns>False if the range is no longer ours (unmapped, or the process is gone).</returns>
    public bool TryUnregister(ulong start, ulong length)
    {
        UffdioRange range = new() { Start = start, Length = length };
        if (_handle.IsClosed || Libc.Ioctl(_handle, UffdConstants.UFFDIO_UNREGISTER, &range) != 0)
            return false;
        // The kernel itself wakes only threads that wait for missing pages, not those that wait to write (userfaultfd_unregister()).
        return Libc.Ioctl(_handle, UffdConstants.UFFDIO_WAKE, &range) == 0;
    }

    /// <summary>Write-protects a range.</summary>
    /// <returns>False if the address space is changing (EAGAIN): a REMOVE or UNMAP event must be read, and the thread that caused it must
    /// run again, before any protection can change. The kernel does not say how far it came: try the whole range again.</returns>
    /// <exception cref="LinuxException">The process is gone.</exception>
    public bool TryProtect(ulong start, ulong length) => TryWriteProtect(start, length, UffdConstants.WriteProtectModeWp);

    /// <summary>Lets the guest write to a range again and wakes the threads that wait in it.</summary>
    /// <returns>As for <see cref="TryProtect"/>.</returns>
    /// <exception cref="LinuxException">The process is gone.</exception>
    public bool TryUnprotect(ulong start, ulong length) => TryWriteProtect(start, length, 0);

    private bool TryWriteProtect(ulong start, ulong length, ulong mode)
    {
        UffdioWriteProtect wp = new()
        {
            Start = start,
            Length = length,
            Mode = mode,
        };
        while (Libc.Ioctl(_handle, UffdConstants.UFFDIO_WRITEPROTECT, &wp) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno == Errno.EAGAIN)
                return false;
            if (errno != Errno.EINTR)
                throw new LinuxException($"UFFDIO_WRITEPROTECT {start:x}+{length:x}", errno);
        }
        return true;
    }

    /// <summary>Wakes the threads that wait in a range without changing its protection.</summary>
    public void Wake(ulong start, ulong length)
    {
        UffdioRange range = new() { Start = start, Length = length };
        if (Libc.Ioctl(_handle, UffdConstants.UFFDIO_WAKE, &range) != 0)
            throw LinuxException.Last($"UFFDIO_WAKE {start:x}+{length:x}");
    }

    /// <summary>Reads pending messages without waiting.</summary>
    /// <returns>The number of messages stored; 0 if none is pending.</returns>
    /// <exception cref="LinuxException">The context is dead, for example because the process has ended.</exception>
    public int Read(UffdMessage* messages, int capacity)
    {
        while (true)
        {
            nint got = Libc.Read(_handle, messages, (nuint)(capacity * sizeof(UffdMessage)));
            if (got >= 0)
                return (int)(got / sizeof(UffdMessage));
            int errno = Marshal.GetLastPInvokeError();
            if (errno == Errno.EAGAIN)
                return 0;
            if (errno != Errno.EINTR)
                throw new LinuxException("read userfaultfd", errno);
        }
    }

    /// <summary>Closes the context; the kernel unregisters what is left and wakes every waiter.</summary>
    public void Dispose() => _handle.Dispose();
}
