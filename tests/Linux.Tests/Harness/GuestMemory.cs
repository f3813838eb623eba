using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>Guest physical memory, read and written through /proc/PID/mem without QEMU's help.</summary>
public sealed class GuestMemory : IDisposable
{
    private readonly SafeFileHandle _memory;

    internal GuestMemory(int pid, long hostAddress, long length)
    {
        _memory = File.OpenHandle($"/proc/{pid}/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        HostAddress = hostAddress;
        Length = length;
    }

    /// <summary>The address in QEMU of guest physical address 0.</summary>
    public long HostAddress { get; }

    public long Length { get; }

    public int Read(long offset, Span<byte> buffer) => RandomAccess.Read(_memory, buffer, HostAddress + offset);

    public void Write(long offset, ReadOnlySpan<byte> bytes) => RandomAccess.Write(_memory, bytes, HostAddress + offset);

    public void Dispose() => _memory.Dispose();
}
