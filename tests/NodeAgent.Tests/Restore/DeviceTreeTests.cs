using Bgsnap.Engine.Restore;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Streams;

namespace Bgsnap.NodeAgent.Tests.Restore;

public class DeviceTreeTests
{
    /// <summary>QEMU's output, shortened: a disk, a bridge with a card behind it, a TPM, a device that saves nothing.</summary>
    private const string Tree = """
        bus: main-system-bus
          type System
          dev: hpet, id ""
            gpio-in "" 2
            timers = 3 (0x3)
          dev: q35-pcihost, id ""
            x-config-reg-migration-enabled = true
            bus: pcie.0
              type PCIE
              dev: pcie-root-port, id "r1"
                chassis = 1 (0x1)
                addr = 02.0
                class PCI bridge, addr 00:02.0, pci id 1b36:000c (sub 0000:0000)
                bus: r1
                  type PCIE
                  dev: virtio-net-pci, id "net0"
                    vectors = 3 (0x3)
                    addr = 00.0
                    bus: virtio-bus
                      type virtio-pci-bus
                      dev: virtio-net-device, id ""
                        mac = "52:54:00:12:34:56"
              dev: virtio-blk-pci, id "vda"
                addr = 01.1
              dev: edu, id ""
                addr = 03.0
              dev: ICH9-LPC, id ""
                addr = 1f.0
                bus: isa.0
                  type ISA
                  dev: tpm-tis, id ""
                    irq = 5 (0x5)
        """;

    [Fact]
    public void Devices_have_the_paths_that_their_sections_begin_with()
    {
        Assert.Equal(
            [
                ("0000:00:02.0", "pcie-root-port"),
                ("0000:00:02.0:00.0", "virtio-net-pci"),
                ("0000:00:01.1", "virtio-blk-pci"),
                ("0000:00:03.0", "edu"),
                ("0000:00:1f.0", "ICH9-LPC"),
            ],
            DeviceTree.Parse(Tree.Replace("\n", "\r\n", StringComparison.Ordinal)).Select(d => (d.Path, d.Type))
        );
        Assert.Contains("tpm-tis", DeviceTree.Types(Tree));
        Assert.Empty(DeviceTree.Parse(""));
    }

    [Fact]
    public void The_same_machine_does_not_differ() =>
        Assert.Empty(
            SectionCheck.Differences(
                Sections(
                    "cpu_common",
                    "cpu_common",
                    "0000:00:02.0/pcie-root-port",
                    "0000:00:02.0:00.0/virtio-net",
                    "0000:00:01.1/virtio-blk",
                    "0000:00:1f.0/ICH9LPC",
                    "tpm-tis"
                ),
                DeviceTree.Parse(Tree),
                2
            )
        );

    [Fact]
    public void Every_difference_is_named() =>
        Assert.Equal(
            [
                "1 vCPU instead of 2",
                "device 0000:00:01.1 is a virtio-blk-pci, in the snapshot a virtio-scsi",
                "no device 0000:00:04.0/virtio-rng",
                "device 0000:00:02.0:00.0/virtio-net-pci is not in the snapshot",
            ],
            SectionCheck.Differences(
                Sections(
                    "cpu_common",
                    "cpu_common",
                    "0000:00:02.0/pcie-root-port",
                    "0000:00:01.1/virtio-scsi",
                    "0000:00:01.1/0:0:0/scsi-disk",
                    "0000:00:1f.0/ICH9LPC",
                    "0000:00:04.0/virtio-rng"
                ),
                DeviceTree.Parse(Tree),
                1
            )
        );

    private static DeviceSection[] Sections(params string[] names) => [.. names.Select(n => new DeviceSection(0, n, 0, 1, 0, 0))];
}
