using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.NodeAgent.Tests.Capture;

/// <summary>Guest memory without a guest: records the calls, and runs a test's callbacks in between.</summary>
internal sealed unsafe class MemoryOfTests : IProtectedMemory
{
    internal const ulong Start = 0x7f0000200000;
    private readonly Lock _lock = new();
    private readonly Queue<UffdMessage> _messages = new();

    /// <summary>The calls in order: <c>read 0+1</c>, <c>prove 0+1</c>, <c>unprotect 0+1</c>, <c>wake 0+1</c>, in granules.</summary>
    internal List<string> Calls { get; } = [];

    /// <summary>How many more times the kernel refuses to unprotect.</summary>
    internal int Refusals { get; set; }

    /// <summary>The exception that the next proof throws.</summary>
    internal Exception? Unproved { get; set; }

    /// <summary>Called in each read.</summary>
    internal Action? WhileReading { get; set; }

    internal static GuestRam OneBlock(int clusters, RamKind kind = RamKind.Anonymous)
    {
        ulong length = (ulong)clusters * GuestRam.ClusterSize;
        return new GuestRam([
            new RamBlock("pc.ram", Start, length, 4096, kind, new MemoryMapping(Start, Start + length, "rw-p", 0, "00:00", 0, "")),
        ]);
    }

    internal void Fault(long granule) =>
        Say(new UffdMessage { Event = UffdConstants.EventPagefault, PagefaultAddress = Start + (ulong)granule * GuestRam.GranuleSize + 8 });

    internal void Discard(ulong offset, ulong length) =>
        Say(
            new UffdMessage
            {
                Event = UffdConstants.EventRemove,
                RemoveStart = Start + offset,
                RemoveEnd = Start + offset + length,
            }
        );

    public void Read(GuestRam.Block block, ulong address, byte* destination, int length)
    {
        Note("read", address, length);
        WhileReading?.Invoke();
    }

    public void Prove(GuestRam.Block block, ulong start, ulong end)
    {
        Note("prove", start, (int)(end - start));
        if (Unproved is { } e)
            throw e;
    }

    public bool TryUnprotect(ulong start, ulong length)
    {
        lock (_lock)
        {
            if (Refusals-- > 0)
                return false;
        }
        Note("unprotect", start, (int)length);
        return true;
    }

    public void Wake(ulong start, ulong length) => Note("wake", start, (int)length);

    public bool AwaitEvents(int milliseconds)
    {
        lock (_lock)
        {
            if (_messages.Count > 0)
                return true;
        }
        Thread.Sleep(1);
        return false;
    }

    public int ReadEvents(UffdMessage* messages, int capacity)
    {
        lock (_lock)
        {
            int count = 0;
            while (count < capacity && _messages.TryDequeue(out UffdMessage m))
                messages[count++] = m;
            return count;
        }
    }

    private void Say(UffdMessage message)
    {
        lock (_lock)
            _messages.Enqueue(message);
    }

    private void Note(string call, ulong address, int length)
    {
        lock (_lock)
            Calls.Add($"{call} {(address - Start) / GuestRam.GranuleSize}+{length / GuestRam.GranuleSize}");
    }
}
