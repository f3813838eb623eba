using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.NodeAgent.Tests.Vm;

/// <summary>Descriptors and counters as the kernel shows them; the test host has no such hardware.</summary>
public sealed class HeldDevicesTests : IDisposable
{
    private readonly TempDirectory _proc = new();

    [Theory]
    [InlineData("/dev/vfio/12", "has /dev/vfio/12 open (VFIO)")]
    [InlineData("/dev/vfio/devices/vfio0", "has /dev/vfio/devices/vfio0 open (VFIO)")]
    [InlineData("anon_inode:[vfio-device]", "has anon_inode:[vfio-device] open (VFIO)")]
    [InlineData("/dev/iommu", "has /dev/iommu open (an IOMMU context)")]
    [InlineData("/dev/vhost-vdpa-0", "has /dev/vhost-vdpa-0 open (vDPA)")]
    [InlineData("/dev/infiniband/uverbs0", "has /dev/infiniband/uverbs0 open (RDMA)")]
    [InlineData("/dev/ng0n1", "has /dev/ng0n1 open (NVMe passthrough)")]
    public void Hardware_is_known_by_what_is_open(string link, string said)
    {
        Process("0 kB", "/dev/null", "socket:[123]", link);
        Assert.Equal(said, Of(1, _proc.Path));
    }

    [Theory]
    [InlineData("0 kB", null)]
    [InlineData("1024 kB", null)] // rings and buffers of QEMU's own
    [InlineData("4194304 kB", "has 4096 MiB of its memory pinned for a device")]
    public void Memory_that_is_pinned_for_long_is_known_by_the_kernels_count(string pinned, string? said)
    {
        Process(pinned, "/dev/kvm", "/dev/vhost-net", "/dev/net/tun", "/dev/vda", "anon_inode:kvm-vm");
        Assert.Equal(said, Of(1, _proc.Path));
    }

    [Fact]
    public void This_process_holds_none_and_one_that_has_ended_neither()
    {
        Assert.Null(Of(Environment.ProcessId, "/proc"));
        Directory.CreateDirectory(_proc.Sub("1"));
        Assert.Null(Of(1, _proc.Path));
    }

    private static string? Of(int pid, string proc)
    {
        using ProcessEntry process = ProcessEntry.Open(pid, proc);
        return HeldDevices.Of(process);
    }

    private void Process(string pinned, params string[] links)
    {
        string folder = Directory.CreateDirectory(_proc.Sub("1/fd")).FullName;
        for (int i = 0; i < links.Length; i++)
            File.CreateSymbolicLink(Path.Combine(folder, $"{i}"), links[i]);
        File.WriteAllText(_proc.Sub("1/status"), $"Name:\tqemu-system-x86\nVmLck:\t       0 kB\nVmPin:\t{pinned, 8}\nVmHWM:\t  1 kB\n");
    }

    public void Dispose() => _proc.Dispose();
}
