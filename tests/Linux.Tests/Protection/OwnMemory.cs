using System.Runtime.InteropServices;
using Bgsnap.Linux.Tests.Harness;
using Microsoft.Win32.SafeHandles;
using AgentLibc = Bgsnap.Linux.Libc;

namespace Bgsnap.Linux.Tests.Protection;

/// <summary>Memory of this process, registered on its own userfaultfd, at a 2 MiB boundary.</summary>
internal sealed unsafe class OwnMemory : IDisposable
{
    internal const int HugePage = 2 << 20,
        Page = 4096;
    private const int MapShared = 1;
    internal const int MADV_DONTNEED = 4,
        MADV_MERGEABLE = 12,
        MADV_NOHUGEPAGE = 15;
    private readonly byte* _mapped;
    private readonly nuint _length;

    private OwnMemory(byte* mapped, nuint length, Userfaultfd uffd)
    {
        _mapped = mapped;
        (_length, Uffd) = (length, uffd);
        Start = (byte*)(((ulong)mapped + HugePage - 1) & ~(ulong)(HugePage - 1));
    }

    internal byte* Start { get; }

    internal Userfaultfd Uffd { get; }

    internal ulong Address => (ulong)Start;

    /// <summary>Anonymous memory; <paramref name="advice"/> selects the page size (madvise).</summary>
    internal static OwnMemory Anonymous(int bytes, int advice)
    {
        nuint length = (nuint)bytes + HugePage;
        OwnMemory made = new(NativeMemoryMap.Allocate(length), length, OwnUserfaultfd.OpenForWriteProtection());
        Assert.Equal(0, AgentLibc.MAdvise(made.Start, (nuint)bytes, advice));
        return made;
    }

    /// <summary>A shared file in memory.</summary>
    internal static OwnMemory Shared(int bytes)
    {
        using SafeFileHandle file = File.OpenHandle(
            $"/dev/shm/bgsnap-test-{Guid.NewGuid():N}",
            FileMode.CreateNew,
            FileAccess.ReadWrite,
            FileShare.None,
            FileOptions.DeleteOnClose
        );
        RandomAccess.SetLength(file, bytes + HugePage);
        void* p = AgentLibc.MMap(
            null,
            (nuint)bytes + HugePage,
            AgentLibc.PROT_READ | AgentLibc.PROT_WRITE,
            MapShared,
            (int)file.DangerousGetHandle(),
            0
        );
        Assert.True(p != AgentLibc.MAP_FAILED, Marshal.GetLastPInvokeErrorMessage());
        return new OwnMemory((byte*)p, (nuint)bytes + HugePage, OwnUserfaultfd.OpenForWriteProtection());
    }

    internal void Register(int bytes) => Uffd.RegisterWriteProtect(Address, (ulong)bytes);

    public void Dispose()
    {
        Uffd.Dispose();
        NativeMemoryMap.Free(_mapped, _length);
    }
}
