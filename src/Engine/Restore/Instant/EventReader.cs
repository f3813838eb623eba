using System.Diagnostics;
using Bgsnap.Linux;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore.Instant;

/// <summary>
/// The thread that reads the kernel's events on QEMU's memory: it queues faults for the threads that serve them, and notes discards. It
/// waits for nothing but copies in progress: no copier works while an event is unread.
/// </summary>
internal sealed unsafe class EventReader(Userfaultfd uffd, PidFd process, LazyRam ram, CopyGate gate, FaultQueue queue)
{
    private const int PollMilliseconds = 100;
    private volatile bool _stop;

    internal void Stop() => _stop = true;

    /// <exception cref="RestoreFailedException">QEMU has ended, or has unmapped guest RAM.</exception>
    internal void Run()
    {
        UffdMessage* messages = ram.Inbox;
        PollFd* poll = stackalloc PollFd[2];
        poll[0] = new PollFd { Fd = uffd.FileDescriptor, Events = Libc.POLLIN };
        poll[1] = new PollFd { Fd = process.FileDescriptor, Events = Libc.POLLIN };
        while (!_stop)
        {
            if (Libc.Poll(poll, 2, PollMilliseconds) <= 0)
                continue;
            if (poll[1].Revents != 0)
                throw new RestoreFailedException(Reasons.QemuGone, "QEMU ended before all of its memory was loaded");
            int count;
            ram.EmptyInbox();
            gate.Close();
            try
            {
                count = uffd.Read(messages, LazyRam.InboxCapacity);
                for (int i = 0; i < count; i++)
                    Note(messages[i]);
            }
            finally
            {
                gate.Open();
            }
            long now = Stopwatch.GetTimestamp();
            for (int i = 0; i < count; i++)
            {
                if (messages[i].Event == UffdConstants.EventPagefault)
                    Hand(new Fault(messages[i].PagefaultAddress, now));
            }
        }
    }

    private void Note(in UffdMessage m)
    {
        switch (m.Event)
        {
            case UffdConstants.EventRemove:
                TestHooks.After("discard-read");
                ram.MarkRemoved(m.RemoveStart, m.RemoveEnd);
                break;
            case UffdConstants.EventUnmap:
                throw new RestoreFailedException(Reasons.RamUnmapped, "QEMU unmapped guest RAM during the restore");
        }
    }

    private void Hand(Fault fault)
    {
        // Fewer threads wait than the queue has room for; a full queue means that they fault again and again.
        while (!queue.TryAdd(fault) && !_stop)
            Thread.Sleep(0);
    }
}
