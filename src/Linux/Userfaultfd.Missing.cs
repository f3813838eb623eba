using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>The half of userfaultfd that fills missing pages.</summary>
internal sealed unsafe partial class Userfaultfd
{
    private const int CopyNumber = 3;

    /// <summary>Registers a range for faults on missing pages.</summary>
    /// <param name="start">First address in the other process, a multiple of its memory's page size.</param>
    /// <param name="length">Length in bytes, a multiple of that page size.</param>
    /// <exception cref="LinuxException">EBUSY: another context owns a part of the range; EINVAL: this kind of memory has no such
    /// faults.</exception>
    public void RegisterMissing(ulong start, ulong length)
    {
        UffdioRegister register = new()
        {
            Start = start,
            Length = length,
            Mode = UffdConstants.RegisterModeMissing,
        };
        if (Libc.Ioctl(_handle, UffdConstants.UFFDIO_REGISTER, &register) != 0)
            throw LinuxException.Last($"UFFDIO_REGISTER {start:x}+{length:x}");
        if ((register.Ioctls & (1UL << CopyNumber)) == 0)
            throw new LinuxException($"UFFDIO_REGISTER {start:x}+{length:x}: this memory cannot be filled", Errno.EINVAL);
    }

    /// <summary>Fills missing pages and wakes the threads that wait for them. A page that already exists keeps its content.</summary>
    /// <param name="start">First address in the other process.</param>
    /// <param name="source">As many bytes in this one.</param>
    /// <param name="length">Bytes, whole pages.</param>
    /// <param name="pageSize">Page size of that memory.</param>
    /// <returns>
    /// The number of bytes done, from the start. If less than <paramref name="length"/>, the address space is changing (a discard by the
    /// balloon), and keeps changing until the thread that reads events has read one. That must be another thread, or this one before it
    /// tries the rest: what was discarded meanwhile must not be filled.
    /// </returns>
    /// <exception cref="LinuxException">The range is no longer registered, or the process is gone.</exception>
    public int Copy(ulong start, byte* source, int length, int pageSize)
    {
        int done = 0;
        while (done < length)
        {
            UffdioCopy copy = new()
            {
                Destination = start + (ulong)done,
                Source = (ulong)(source + done),
                Length = (ulong)(length - done),
            };
            if (Libc.Ioctl(_handle, UffdConstants.UFFDIO_COPY, &copy) == 0)
                return length;
            int errno = Marshal.GetLastPInvokeError();
            if (copy.Copied > 0)
                done += (int)copy.Copied; // partial; the next iteration learns why
            else if (errno == Errno.EEXIST)
            {
                // Another thread was faster: its page stays, but its wake may have come before the waiter slept.
                Wake(start + (ulong)done, (ulong)pageSize);
                done += pageSize;
            }
            else if (errno == Errno.EAGAIN)
                return done;
            else if (errno != Errno.EINTR)
                throw new LinuxException($"UFFDIO_COPY {start + (ulong)done:x}+{length - done:x}", errno);
        }
        return done;
    }
}
