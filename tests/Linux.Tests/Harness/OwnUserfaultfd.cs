using Microsoft.Win32.SafeHandles;
using AgentLibc = Bgsnap.Linux.Libc;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>A userfaultfd for memory of this process.</summary>
internal static unsafe class OwnUserfaultfd
{
    /// <summary>Opens a userfaultfd; UFFDIO_API has not been called yet.</summary>
    /// <exception cref="LinuxException">The kernel refuses.</exception>
    internal static Userfaultfd Open()
    {
        int device = AgentLibc.Open("/dev/userfaultfd", AgentLibc.O_RDWR | AgentLibc.O_CLOEXEC, 0);
        if (device < 0)
            throw LinuxException.Last("open /dev/userfaultfd");
        using SafeFileHandle closed = new(device, true);
        // SAFETY: the argument is a set of flags, not an address.
        int fd = AgentLibc.Ioctl(device, UffdConstants.USERFAULTFD_IOC_NEW, (void*)(AgentLibc.O_CLOEXEC | AgentLibc.O_NONBLOCK));
        return fd >= 0 ? new Userfaultfd(new SafeFileHandle(fd, true)) : throw LinuxException.Last("USERFAULTFD_IOC_NEW");
    }

    /// <summary>Opens a userfaultfd that can write-protect memory of every kind.</summary>
    internal static Userfaultfd OpenForWriteProtection()
    {
        Userfaultfd uffd = Open();
        if (uffd.TryEnable(UffdFeatures.PagefaultFlagWp | UffdFeatures.WpHugetlbfsShmem | UffdFeatures.WpUnpopulated))
            return uffd;
        uffd.Dispose();
        throw new NotSupportedException("this kernel cannot write-protect memory that is not there (Linux 6.4 and later can)");
    }
}
