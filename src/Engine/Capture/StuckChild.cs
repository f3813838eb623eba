using System.Globalization;
using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Takes from a capturing process that cannot be killed what QEMU and its guest wait for. There are two kinds: a process in which one
/// thread sleeps in a call that no signal ends (a volume that hangs), because what it has open stays open until its last thread is gone;
/// and a process in a frozen cgroup of version 1.
/// </summary>
/// <remarks>
/// Descriptors of another process cannot be closed, but they can be copied (pidfd_getfd(2)). Through the copy:
/// <code>
///   a userfaultfd   is unregistered from every range, which wakes the threads that wait there; its events are read
///   a socket        is shut down for both: QEMU's monitor is free for others
///   a pipe          is read to its end: QEMU's write continues
/// </code>
/// </remarks>
internal static unsafe class StuckChild
{
    private const int Events = 64,
        Piece = 32 * 1024;

    /// <param name="child">The capturing process.</param>
    /// <param name="qemu">QEMU; null if not known.</param>
    /// <returns>The number of descriptors handled.</returns>
    internal static int TakeAway(CheckedProcess child, ProcessEntry? qemu)
    {
        int done = 0;
        try
        {
            // What a vCPU waits for comes first.
            foreach (
                (int fd, string target) in Descriptors(child)
                    .OrderBy(d => d.Target.Contains("userfaultfd", StringComparison.Ordinal) ? 0 : 1)
            )
                done += TryTake(child.Descriptor, fd, target, qemu) ? 1 : 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The process has ended after all.
        }
        return done;
    }

    private static bool TryTake(PidFd process, int fd, string target, ProcessEntry? qemu)
    {
        try
        {
            switch (target.Split(':')[0])
            {
                case "anon_inode" when target.Contains("userfaultfd", StringComparison.Ordinal):
                    GiveBack(process.GetDescriptor(fd), qemu);
                    return true;
                case "socket":
                    using (SafeFileHandle socket = process.GetDescriptor(fd))
                        UnixSocket.ShutDown(socket);
                    return true;
                // Its standard input and output are ours.
                case "pipe" when fd > 2:
                    ReadToEnd(process.GetDescriptor(fd));
                    return true;
                default:
                    return false;
            }
        }
        catch (IOException)
        {
            return false; // it or QEMU has ended
        }
    }

    private static void GiveBack(SafeFileHandle descriptor, ProcessEntry? qemu)
    {
        using Userfaultfd uffd = new(descriptor);
        // One range at a time: the kernel refuses a range that also holds memory which cannot be registered.
        foreach (MemoryMapping m in qemu is null ? [] : MemoryMapping.Read(qemu))
            _ = uffd.TryUnregister(m.Start, m.End - m.Start);
        // SAFETY: on our stack, and no more than fits is read.
        UffdMessage* messages = stackalloc UffdMessage[Events];
        while (uffd.Read(messages, Events) > 0) { }
    }

    /// <summary>Reads on a thread that ends with the pipe's writer, or with this process.</summary>
    private static void ReadToEnd(SafeFileHandle pipe) =>
        AgentThread.Start(
            "drain",
            () =>
            {
                using (pipe)
                {
                    // SAFETY: on this thread's stack, and no more than fits is read.
                    byte* into = stackalloc byte[Piece];
                    PollFd poll = new() { Fd = (int)pipe.DangerousGetHandle(), Events = Libc.POLLIN };
                    while (true)
                    {
                        _ = Libc.Poll(&poll, 1, -1);
                        nint got = Libc.Read(pipe, into, Piece);
                        // A write end cannot be read.
                        if (got == 0 || (got < 0 && Marshal.GetLastPInvokeError() is not (Errno.EAGAIN or Errno.EINTR)))
                            return;
                    }
                }
            },
            failed: _ => { }
        ); // then the pipe is full again, and the watchdogs see the thread that waits for it

    private static IEnumerable<(int Number, string Target)> Descriptors(ProcessEntry process)
    {
        foreach (string link in process.Descriptors())
        {
            if (new FileInfo(link).LinkTarget is { } target)
                yield return (int.Parse(Path.GetFileName(link), CultureInfo.InvariantCulture), target);
        }
    }
}
