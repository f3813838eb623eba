using Bgsnap.Engine.Restore;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.NodeAgent.Tests.Restore;

public class MachineCheckTests
{
    [Theory]
    [InlineData("7.2.22", "10.0.2", true)]
    [InlineData("8.1.0", "8.2.0", true)]
    [InlineData("7.2.19", "7.2.22", false)] // updates of one release
    [InlineData("10.0.2", "7.2.22", false)]
    [InlineData("10.0.2", "10.0.2", false)]
    [InlineData("unknown", "10.0.2", false)]
    public void An_older_release_is_older(string target, string source, bool older) =>
        Assert.Equal(older, MachineCheck.IsOlder(target, source));

    [Fact]
    public void Every_difference_of_RAM_is_named()
    {
        RamBlockLine[] target =
        [
            Line("pc.ram", 64 << 20, 64 << 20),
            Line("tables", 0x20000, 0x200000),
            Line("vga.vram", 8 << 20, 8 << 20),
            Line("rom", 0x10000, 0x10000),
        ];
        RamBlockLayout[] snapshot =
        [
            new("pc.ram", 128 << 20, 4096),
            new("tables", 0x40000, 4096),
            new("gone", 4096, 4096),
            new("rom", 0x10000, 4096),
        ];

        Assert.Equal(
            ["RAM block pc.ram has 65536 KiB instead of 131072", "no RAM block gone (4 KiB)", "RAM block vga.vram is not in the snapshot"],
            MachineCheck.Ram(target, snapshot)
        );
        // A resizable block accepts any length up to its maximum.
        Assert.Empty(MachineCheck.Ram([Line("tables", 0x20000, 0x200000)], [new("tables", 0x200000, 4096)]));
        Assert.Single(MachineCheck.Ram([Line("tables", 0x20000, 0x200000)], [new("tables", 0x201000, 4096)]));
    }

    [Fact]
    public void Every_difference_of_devices_is_named()
    {
        DeviceSection[] snapshot =
        [
            Section("timer"),
            Section("globalstate"),
            Section("serial", 0),
            Section("serial", 1),
            Section("0000:00:02.0/virtio-blk", version: 2),
            Section("0000:00:03.0/e1000", version: 3),
        ];
        DeviceSection[] target =
        [
            Section("timer"),
            Section("serial", 0),
            Section("0000:00:03.0/e1000", version: 2),
            Section("0000:00:04.0/virtio-rng"),
            Section("new-part"),
        ];
        string[] always =
        [
            "1 device serial instead of 2",
            "no device 0000:00:02.0/virtio-blk",
            "device 0000:00:03.0/e1000 knows version 2 of its state, the snapshot has version 3",
            "device 0000:00:04.0/virtio-rng is not in the snapshot",
        ];

        Assert.Equal([.. always, "device new-part is not in the snapshot"], DeviceCheck.Differences(snapshot, target, sameRelease: true));
        Assert.Equal(always, DeviceCheck.Differences(snapshot, target, sameRelease: false));
        Assert.Empty(DeviceCheck.Differences(snapshot, snapshot, sameRelease: true));
    }

    [Fact]
    public void Another_number_of_vCPUs_is_one_difference()
    {
        DeviceSection[] two = [Section("timer"), .. OfCpu(0), .. OfCpu(1)],
            one = [Section("timer"), .. OfCpu(0)];

        Assert.Equal(["1 vCPU instead of 2"], DeviceCheck.Differences(two, one, sameRelease: true));
        Assert.Equal(["2 vCPUs instead of 1"], DeviceCheck.Differences(one, two, sameRelease: false));

        static DeviceSection[] OfCpu(uint n) => [Section("cpu_common", n), Section("cpu", n), Section("apic", n)];
    }

    private static RamBlockLine Line(string name, ulong used, ulong max) => new(name, 4096, 0, used, max, 0);

    private static DeviceSection Section(string name, uint instance = 0, uint version = 1) => new(0, name, instance, version, 0, 0);
}
