using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Restore;

public class ShapeCheckTests
{
    /// <summary>QEMU 7.2's output, shortened.</summary>
    private const string Tree = """
        bus: main-system-bus
          type System
          dev: q35-pcihost, id ""
            bus: pcie.0
              type PCIE
              dev: e1000, id ""
                addr = 04.0
                multifunction = false
                class Ethernet controller, addr 00:04.0, pci id 8086:100e (sub 1af4:1100)
                bar 0: mem at 0xfe640000 [0xfe65ffff]
              dev: virtio-serial-pci, id "serial0"
                vectors = 2 (0x2)
                addr = 02.0
                class Class 0780, addr 00:02.0, pci id 1af4:1003 (sub 1af4:0003)
                bus: serial0.0
                  type virtio-pci-bus
                  dev: virtio-serial-device, id ""
                    max_ports = 31 (0x1f)
                    bus: virtio-serial-bus.0
                      type virtio-serial-bus
                      dev: virtserialport, id ""
                        nr = 3 (0x3)
                      dev: virtconsole, id "c"
                        nr = 1 (0x1)
              dev: pcie-root-port, id "rp"
                hotplug = true
                addr = 01.0
                class PCI bridge, addr 00:01.0, pci id 1b36:000c (sub 0000:0000)
                bus: rp
                  type PCIE
                  dev: virtio-blk-pci, id "vda"
                    vectors = 5 (0x5)
                    addr = 00.0
                    class SCSI controller, addr 01:00.0, pci id 1af4:1042 (sub 1af4:1100)
                    bus: virtio-bus
                      type virtio-pci-bus
                      dev: virtio-blk-device, id ""
                        drive = "d"
                        num-queues = 4 (0x4)
        """;

    [Fact]
    public void What_shapes_a_devices_state_is_read()
    {
        Dictionary<string, PciDevice> devices = DeviceTree.Parse(Tree).ToDictionary(d => d.Path);

        Assert.Equal("multifunction=false", Text(devices["0000:00:04.0"]));
        Assert.Equal("ports=1,3 vectors=2", Text(devices["0000:00:02.0"]));
        Assert.Equal("hotplug=true", Text(devices["0000:00:01.0"]));
        Assert.Equal("num-queues=4 vectors=5", Text(devices["0000:00:01.0:00.0"]));
        Assert.Equal(("vda", "1af4:1042"), (devices["0000:00:01.0:00.0"].Id, devices["0000:00:01.0:00.0"].PciId));
        Assert.Null(devices["0000:00:04.0"].Id);
    }

    [Theory]
    [InlineData("vectors = 5", "vectors = 2", "device 0000:00:01.0:00.0, virtio-blk-pci 'vda', has vectors 2 instead of 5")]
    [InlineData("num-queues = 4", "num-queues = 1", "device 0000:00:01.0:00.0, virtio-blk-pci 'vda', has num-queues 1 instead of 4")]
    [InlineData("nr = 3", "nr = 4", "device 0000:00:02.0, virtio-serial-pci 'serial0', has ports 1,4 instead of 1,3")]
    [InlineData(
        "pci id 8086:100e",
        "pci id 8086:100f",
        "device 0000:00:04.0 is e1000 (PCI id 8086:100f), in the captured machine e1000 (8086:100e)"
    )]
    // Other names, another order of ports, other back ends, and more queues than the guest knows of still are the same machine.
    [InlineData("num-queues = 4", "num-queues = 8", null)]
    [InlineData("id \"vda\"", "id \"other\"", null)]
    [InlineData("drive = \"d\"", "drive = \"e\"", null)]
    [InlineData("dev: e1000,", "dev: e1000-renamed,", null)]
    [InlineData("multifunction = false\n", "\n", null)]
    [InlineData("max_ports = 31", "max_ports = 8", null)]
    public void A_device_of_another_shape_is_named(string before, string after, string? difference)
    {
        Assert.Contains(before, Tree, StringComparison.Ordinal);
        string there = Tree.Replace(before, after, StringComparison.Ordinal);

        Assert.Equal(difference is null ? [] : [difference], Differences(Tree, there));
    }

    [Fact]
    public void Ports_that_were_not_there_are_named_too()
    {
        string without = Tree.Replace("nr = 3", "x = 3", StringComparison.Ordinal).Replace("nr = 1", "x = 1", StringComparison.Ordinal);

        string found = Assert.Single(Differences(without, Tree));

        Assert.EndsWith("has ports 1,3 instead of none", found, StringComparison.Ordinal);
    }

    [Fact]
    public void A_snapshot_that_keeps_no_devices_does_not_differ() => Assert.Empty(ShapeCheck.Differences(null, DeviceTree.Parse(Tree)));

    private static IEnumerable<string> Differences(string captured, string target) =>
        ShapeCheck
            .Differences([.. DeviceTree.Parse(captured).Select(ManifestBuilder.Device)], DeviceTree.Parse(target))
            .Select(d => d.Words);

    private static string Text(PciDevice device) => string.Join(' ', device.Properties!.Select(p => $"{p.Key}={p.Value}"));
}
