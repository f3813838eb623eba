using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>Obtains a userfaultfd of QEMU's address space that only the agent holds.</summary>
/// <remarks>
/// <code>
///   agent                                    QEMU (uid 107, sandboxed)
///   open /dev/userfaultfd
///   QMP getfd ──────────────────────────────▶ descriptor n, found by its flags
///   ptrace: ioctl(n, USERFAULTFD_IOC_NEW) ──▶ descriptor m, a context of QEMU's memory
///   pidfd_getfd(m) ◀──────────────────────── (a copy)
///   ptrace: close(m)                          the agent's is the only one left
///   QMP closefd
/// </code>
/// The device needs no privilege in QEMU and no sysctl. The kernel creates the context for the process that calls the ioctl; that is why
/// the call is made in QEMU.
/// </remarks>
internal static class UserfaultfdSource
{
    private const long SysClose = 3,
        SysIoctl = 16,
        SysUserfaultfd = 323;

    // The guest does not run yet; discarding its memory takes time.
    private static readonly TimeSpan WhileEmptied = TimeSpan.FromMinutes(2);
    private const int Flags = Libc.O_CLOEXEC | Libc.O_NONBLOCK;

    /// <summary>
    /// QEMU's name for the device that the agent passes to it. It is passed by name and not in a descriptor set: QEMU closes what is
    /// removed from a set only while the guest runs (monitor_fdset_cleanup()), so the QEMU of a paused guest would keep the device.
    /// </summary>
    internal const string DeviceName = "agent-bgsnap-userfaultfd";

    /// <summary>Marks what the agent passes to QEMU, so that leftovers are recognised.</summary>
    internal const string Opaque = "agent-bgsnap";

    /// <exception cref="EngineUnavailableException">This machine or this QEMU does not allow it.</exception>
    internal static Userfaultfd Obtain(IQmpMonitor qmp, CheckedProcess process)
    {
        Userfaultfd uffd = Make(qmp, process, null, out _);
        try
        {
            Enable(uffd);
            return uffd;
        }
        catch
        {
            uffd.Dispose();
            throw;
        }
    }

    /// <summary>
    /// The same, but QEMU keeps its copy: if the agent dies, a thread that waits for a page keeps waiting instead of reading zeroes.
    /// </summary>
    /// <param name="qmp">QEMU's monitor.</param>
    /// <param name="process">Its process.</param>
    /// <param name="whileHeld">What else to do to QEMU in the same hold; a failure closes QEMU's copy again.</param>
    /// <param name="theirs">QEMU's copy, a descriptor number in QEMU.</param>
    /// <returns>A context on which UFFDIO_API has not been called yet.</returns>
    /// <exception cref="EngineUnavailableException">This machine or this QEMU does not allow it.</exception>
    internal static Userfaultfd ObtainAndLeave(IQmpMonitor qmp, CheckedProcess process, Action<RemoteThread> whileHeld, out int theirs) =>
        Make(qmp, process, whileHeld, out theirs);

    private static Userfaultfd Make(IQmpMonitor qmp, CheckedProcess process, Action<RemoteThread>? whileHeld, out int theirs)
    {
        SyscallGadget gadget;
        try
        {
            gadget = SyscallGadget.Find(process);
        }
        catch (NotSupportedException e)
        {
            throw new EngineUnavailableException(e.Message);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            throw new EngineUnavailableException(
                $"the agent may not read QEMU's memory: {e.Message} (run as root, or with CAP_SYS_PTRACE)"
            );
        }
        if (TestHooks.Is("deny", "ptrace"))
            throw new EngineUnavailableException("ptrace is denied (test hook)");
        using SafeFileHandle? device = OpenDevice();
        return device is null
            ? Take(process, gadget, SysUserfaultfd, Flags, 0, 0, whileHeld, out theirs)
            : TakeFromDevice(qmp, process, gadget, device, whileHeld, out theirs);
    }

    private static SafeFileHandle? OpenDevice()
    {
        if (TestHooks.Is("deny", "userfaultfd-device"))
            return null;
        int fd = Libc.Open("/dev/userfaultfd", Libc.O_RDWR | Libc.O_CLOEXEC | UserfaultfdDevice.Mark, 0);
        if (fd >= 0)
            return new SafeFileHandle(fd, true);
        int errno = Marshal.GetLastPInvokeError();
        // Linux before 6.1 has no device: the system call needs a privileged QEMU or vm.unprivileged_userfaultfd=1.
        return errno == Errno.ENOENT
            ? null
            : throw new EngineUnavailableException(new LinuxException("open /dev/userfaultfd", errno).Message);
    }

    private static Userfaultfd TakeFromDevice(
        IQmpMonitor qmp,
        CheckedProcess process,
        SyscallGadget gadget,
        SafeFileHandle device,
        Action<RemoteThread>? whileHeld,
        out int left
    )
    {
        QemuMark.Keep(qmp, DeviceName, (int)device.DangerousGetHandle());
        TestHooks.After("userfaultfd-device-kept");
        try
        {
            int theirs = UserfaultfdDevice.FindIn(process) is [int first, ..]
                ? first
                : throw new EngineUnavailableException("QEMU did not get the userfaultfd device that the agent sent it");
            return Take(process, gadget, SysIoctl, (ulong)theirs, UffdConstants.USERFAULTFD_IOC_NEW, Flags, whileHeld, out left);
        }
        finally
        {
            _ = QemuMark.Take(qmp, DeviceName);
        }
    }

    private static Userfaultfd Take(
        CheckedProcess process,
        SyscallGadget gadget,
        long call,
        ulong a,
        ulong b,
        ulong c,
        Action<RemoteThread>? whileHeld,
        out int left
    )
    {
        SafeFileHandle? taken = null;
        int made = -1;
        try
        {
            RemoteThread.Hold(
                process,
                gadget,
                thread =>
                {
                    long theirs = thread.Call(call, a, b, c);
                    if (theirs < 0)
                        throw new EngineUnavailableException(new LinuxException("make a userfaultfd in QEMU", (int)-theirs).Message);
                    bool keep = false;
                    try
                    {
                        taken = process.Descriptor.GetDescriptor((int)theirs);
                        whileHeld?.Invoke(thread);
                        keep = whileHeld is not null;
                        made = (int)theirs;
                    }
                    finally
                    {
                        if (!keep)
                            thread.Call(SysClose, (ulong)theirs);
                    }
                },
                whileHeld is null ? null : WhileEmptied
            );
        }
        catch (LinuxException e) when (e.Errno is Errno.EPERM or Errno.EACCES)
        {
            taken?.Dispose();
            throw new EngineUnavailableException(
                $"ptrace is denied: {e.Message} (run as root or with CAP_SYS_PTRACE; end any debugger that traces QEMU)"
            );
        }
        catch
        {
            taken?.Dispose();
            throw;
        }
        left = made;
        return new Userfaultfd(taken!);
    }

    private static void Enable(Userfaultfd uffd)
    {
        const UffdFeatures needed =
            UffdFeatures.PagefaultFlagWp | UffdFeatures.EventRemove | UffdFeatures.EventUnmap | UffdFeatures.WpHugetlbfsShmem;
        if (!TestHooks.Is("deny", "wp-unpopulated") && uffd.TryEnable(needed | UffdFeatures.WpUnpopulated))
            return;
        // Linux 5.19 to 6.3 cannot protect missing pages, so the agent populates them (PopulationScan).
        if (TestHooks.Is("deny", "uffd-features") || !uffd.TryEnable(needed))
            throw new EngineUnavailableException("the kernel lacks UFFD_FEATURE_WP_HUGETLBFS_SHMEM (use Linux 5.19 or later)");
    }
}
