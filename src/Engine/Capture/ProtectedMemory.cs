using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>The memory of a real QEMU, protected through a userfaultfd.</summary>
internal sealed unsafe class ProtectedMemory : IProtectedMemory
{
    private readonly RamReader _reader;
    private readonly Userfaultfd _uffd;
    private readonly Pagemap _pagemap;

    // For the tests that show what the protection, and the proof of it, are good for.
    private readonly bool _proves = !TestHooks.Is("skip", "protection") && !TestHooks.Is("skip", "proof");

    internal ProtectedMemory(RamReader reader, Userfaultfd uffd, Pagemap pagemap) => (_reader, _uffd, _pagemap) = (reader, uffd, pagemap);

    /// <inheritdoc/>
    public void Read(GuestRam.Block block, ulong address, byte* destination, int length)
    {
        TestHooks.After("claimed");
        _reader.Read(block, address, destination, length);
        TestHooks.After("read");
    }

    /// <inheritdoc/>
    public void Prove(GuestRam.Block block, ulong start, ulong end)
    {
        if (!_proves)
            return;
        ulong lost = _pagemap.FirstUnprotected(start, end);
        if (lost != end)
            throw Unproved(block, lost);
    }

    /// <summary>Refuses a kernel that cannot show the protection of huge pages, right after everything was protected.</summary>
    /// <exception cref="RefusedException">No copy of a huge page could be proved.</exception>
    internal void RefuseBlindKernel(GuestRam ram)
    {
        if (!_proves || _pagemap.SeesHugePages)
            return;
        foreach (GuestRam.Block b in ram.Blocks)
        {
            if (b.Ram.IsHugetlb && _pagemap.FirstUnprotected(b.Start, b.ClusterEnd(b.FirstCluster)) == b.Start)
                throw new RefusedException(
                    Reasons.KernelTooOld,
                    $"the kernel does not tell whether RAM block {b.Ram.Name} ({b.Ram.Kind}) is write-protected, so that its copy "
                        + "cannot be proved: use Linux 6.7 or later"
                );
        }
    }

    /// <inheritdoc/>
    public bool TryUnprotect(ulong start, ulong length) => _uffd.TryUnprotect(start, length);

    /// <inheritdoc/>
    public void Wake(ulong start, ulong length) => _uffd.Wake(start, length);

    /// <inheritdoc/>
    public bool AwaitEvents(int milliseconds)
    {
        PollFd poll = new() { Fd = _uffd.FileDescriptor, Events = Libc.POLLIN };
        if (Libc.Poll(&poll, 1, milliseconds) <= 0)
            return false;
        if ((poll.Revents & (Libc.POLLERR | Libc.POLLHUP)) != 0)
            throw new CaptureFailedException(Reasons.QemuGone, "QEMU ended during the capture");
        return true;
    }

    /// <inheritdoc/>
    public int ReadEvents(UffdMessage* messages, int capacity)
    {
        int count = _uffd.Read(messages, capacity);
        for (int i = 0; i < count; i++)
        {
            if (messages[i].Event == UffdConstants.EventRemove)
                TestHooks.After("discard-announced");
        }
        return count;
    }

    private CaptureFailedException Unproved(GuestRam.Block block, ulong address)
    {
        string page = $"RAM block {block.Ram.Name}, offset {address - block.Start:x} (address {address:x} of QEMU)";
        if (_pagemap.Lost(address) == LostPage.Discarded)
            return new CaptureFailedException(
                Reasons.MemoryDiscarded,
                $"{page}: QEMU discarded this memory before it was copied (balloon or free page reporting); try again when the "
                    + "balloon is at rest, or without free-page-reporting"
            );
        string why = SamepageMerging.IsRunning
            ? $"the kernel merges equal pages and drops their write protection; {SamepageMerging.Remedy}"
            : "the kernel removed the protection without reporting it";
        return new CaptureFailedException(
            Reasons.ProtectionLost,
            $"{page}: this page was no longer write-protected when the agent copied it, so that the agent may have missed a write of "
                + "the guest: "
                + why
        );
    }
}
