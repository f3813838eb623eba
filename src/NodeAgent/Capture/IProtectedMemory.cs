using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// All that the threads which copy do to the guest's memory. Behind an interface, so that the classes which decide (claims, discards, the
/// order of copy, proof and release) can be tried in every order without a kernel.
/// </summary>
internal unsafe interface IProtectedMemory
{
    /// <summary>Reads a stretch of a block.</summary>
    void Read(GuestRam.Block block, ulong address, byte* destination, int length);

    /// <summary>Proves that every page of a range is still write-protected.</summary>
    /// <exception cref="CaptureFailedException">One is not: what was read there may be younger than the point in time.</exception>
    void Prove(GuestRam.Block block, ulong start, ulong end);

    /// <summary>Lets the guest write to a range and wakes who waits in it.</summary>
    /// <returns>False: QEMU is discarding memory, and the kernel refuses until the event has been read and QEMU's thread has run.</returns>
    bool TryUnprotect(ulong start, ulong length);

    /// <summary>Wakes who waits in a range.</summary>
    void Wake(ulong start, ulong length);

    /// <summary>Waits until there is something to read.</summary>
    /// <returns>False when the time is over.</returns>
    /// <exception cref="CaptureFailedException">QEMU has ended.</exception>
    bool AwaitEvents(int milliseconds);

    /// <summary>Reads faults and changes of the address space, without waiting.</summary>
    /// <returns>How many.</returns>
    int ReadEvents(UffdMessage* messages, int capacity);
}
