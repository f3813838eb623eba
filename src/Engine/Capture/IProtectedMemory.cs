using Bgsnap.Linux;
using Bgsnap.Qemu;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Everything that the copying threads do to the guest's memory. It is an interface so that tests can run the classes that decide (claims,
/// discards, the order of copy, proof and release) in every order without a kernel.
/// </summary>
internal unsafe interface IProtectedMemory
{
    /// <summary>Reads a stretch of a block.</summary>
    void Read(GuestRam.Block block, ulong address, byte* destination, int length);

    /// <summary>Proves that every page of a range is still write-protected.</summary>
    /// <exception cref="CaptureFailedException">A page is not protected: what was read there may be newer than the point in
    /// time.</exception>
    void Prove(GuestRam.Block block, ulong start, ulong end);

    /// <summary>Lets the guest write to a range and wakes the threads that wait in it.</summary>
    /// <returns>False: QEMU is discarding memory, and the kernel refuses until the event has been read and QEMU's thread has run.</returns>
    bool TryUnprotect(ulong start, ulong length);

    /// <summary>Wakes the threads that wait in a range.</summary>
    void Wake(ulong start, ulong length);

    /// <summary>Waits until there is an event to read.</summary>
    /// <returns>False after the timeout.</returns>
    /// <exception cref="CaptureFailedException">QEMU has ended.</exception>
    bool AwaitEvents(int milliseconds);

    /// <summary>Reads faults and changes of the address space, without waiting.</summary>
    /// <returns>The number of messages.</returns>
    int ReadEvents(UffdMessage* messages, int capacity);
}
