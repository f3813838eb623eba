using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>
/// A target whose devices have another shape than the captured ones. QEMU would reject them in the middle of the load and be useless
/// afterwards; or it would load them, and its guest would wait for a queue that does not exist.
/// </summary>
public sealed class DeviceShapeTests : SmallTargets
{
    private const QemuVersion Seven = QemuVersion.System,
        Ten = QemuVersion.Unpacked10;
    private const string Blk = "virtio-blk-pci,drive=d",
        Serial = "virtio-serial-pci";

    private const string Many =
        "pcie-root-port,id=a,chassis=1;virtio-blk-pci,drive=d,bus=a,num-queues=2,vectors=5;qemu-xhci;"
        + "virtio-net-pci;virtio-serial-pci;virtserialport,nr=3;virtserialport,nr=11;virtio-balloon-pci;virtio-rng-pci;VGA;ich9-intel-hda;"
        + "virtio-scsi-pci;usb-tablet";

    private const string SameMany =
        "pcie-root-port,id=b,chassis=1;virtio-blk-pci,drive=d,bus=b,num-queues=4,vectors=5,id=other;qemu-xhci;"
        + "virtio-net-pci,mac=52:54:00:99:99:99;virtio-serial-pci,id=s;virtserialport,nr=11;virtserialport,nr=3,id=q;virtio-balloon-pci;"
        + "virtio-rng-pci;VGA;ich9-intel-hda;virtio-scsi-pci;usb-tablet";

    [SkippableTheory]
    [InlineData(Seven, Seven, Blk + ",num-queues=4", Blk + ",num-queues=1", "num-queues 1 instead of 4, vectors 2 instead of 5")]
    [InlineData(Ten, Ten, Blk + ",num-queues=4,vectors=5", Blk + ",num-queues=1,vectors=5", "has num-queues 1 instead of 4")]
    [InlineData(Seven, Ten, Blk, Blk + ",vectors=0", "vectors 0 instead of 2")]
    [InlineData(Ten, Ten, Blk, Blk + ",disable-legacy=on", "(PCI id 1af4:1042)")]
    [InlineData(Seven, Seven, Blk, Blk + ",multifunction=on", "multifunction true instead of false")]
    [InlineData(Seven, Seven, "e1000", "e1000-82545em", "(PCI id 8086:100f), in the captured machine e1000 (8086:100e)")]
    [InlineData(Seven, Ten, "qemu-xhci,id=usb,p2=4", "qemu-xhci,id=usb,p2=8", "p2 8 instead of 4")]
    [InlineData(Ten, Ten, Serial + ";virtserialport,nr=3", Serial + ";virtserialport,nr=4", "ports 4 instead of 3")]
    [InlineData(Seven, Seven, Serial, Serial + ";virtserialport,nr=4", "ports 4 instead of none")]
    public async Task It_is_named_before_anything_is_sent(
        QemuVersion version,
        QemuVersion other,
        string captured,
        string there,
        string sentence
    )
    {
        var source = Firmware(version) with { Machine = "pc-i440fx-7.2" };
        var snapshot = await SnapshotAsync(source with { ExtraArguments = Devices(captured) });
        await using var target = await VirtualMachine.StartAsync(Waiting(source with { Version = other }, Devices(there)));

        var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--disks=none", "--mode=instant");

        await AssertRefusedAsync(outcome, target, "TargetDiffers", sentence);
        // The snapshot is sound, and a machine like the captured one accepts it.
        await RestoresAsync(snapshot, Waiting(source with { Version = other }, Devices(captured)));
    }

    /// <summary>Other ids, back ends, network addresses and more queues still are the same machine.</summary>
    [SkippableTheory]
    [InlineData(Seven, Seven)]
    [InlineData(Seven, Ten)]
    [InlineData(Ten, Ten)]
    public async Task The_same_machine_under_other_names_is_restored(QemuVersion version, QemuVersion other)
    {
        var source = Firmware(version) with { Machine = "pc-q35-7.2" };
        var snapshot = await SnapshotAsync(source with { ExtraArguments = Devices(Many) });

        await RestoresAsync(snapshot, Waiting(source with { Version = other }, Devices(SameMany)));
    }

    /// <summary>A snapshot of a bgsnap version that did not store the machine's devices still has their configuration spaces.</summary>
    [SkippableTheory]
    [InlineData(Seven, Seven, Blk + ",num-queues=4", Blk + ",num-queues=1", "device 0000:00:02.0/virtio-blk has 2 vectors instead of 5")]
    [InlineData(Ten, Ten, Blk + ",num-queues=4", Blk + ",num-queues=1", "device 0000:00:02.0/virtio-blk has 2 vectors instead of 5")]
    [InlineData(Seven, Ten, Blk, Blk + ",disable-legacy=on", "has PCI id 1af4:1042 instead of 1af4:1001")]
    [InlineData(Seven, Ten, "intel-hda", "intel-hda,msi=off", "intel-hda has other PCI capabilities")]
    [InlineData(Ten, Ten, Blk, Blk + ",multifunction=on", "has PCI header 80 instead of 00")]
    public async Task Without_the_captured_devices_their_state_tells(
        QemuVersion version,
        QemuVersion other,
        string captured,
        string there,
        string sentence
    )
    {
        var source = Firmware(version) with { Machine = "pc-i440fx-7.2" };
        var snapshot = await SnapshotAsync(source with { ExtraArguments = Devices(captured) });
        var path = Path.Combine(snapshot, "snapshot.json");
        var manifest = ManifestJson.Read(await File.ReadAllBytesAsync(path), path);
        Assert.NotEmpty(manifest.Machine.Devices!);
        await File.WriteAllBytesAsync(path, ManifestJson.Write(manifest with { Machine = manifest.Machine with { Devices = null } }));
        await using var target = await VirtualMachine.StartAsync(Waiting(source with { Version = other }, Devices(there)));

        var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--disks=none");

        await AssertRefusedAsync(outcome, target, "TargetDiffers", sentence);
        await RestoresAsync(snapshot, Waiting(source with { Version = other }, Devices(captured)));
    }

    /// <summary>QEMU cannot be asked for the ports of a USB controller without an id.</summary>
    [SkippableTheory]
    [InlineData("stream")]
    [InlineData("instant")]
    public async Task A_QEMU_that_does_not_take_the_devices_ends_the_restore_with_that_reason(string mode)
    {
        var source = Firmware(Seven);
        var snapshot = await SnapshotAsync(source with { ExtraArguments = Devices("qemu-xhci,p2=4") });
        // Several threads notice QEMU's death at once: one try proves nothing.
        for (var i = 0; i < 5; i++)
        {
            await using var target = await VirtualMachine.StartAsync(Waiting(source, Devices("qemu-xhci,p2=8")));
            var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--disks=none", $"--mode={mode}");
            Assert.True(outcome.Process.ExitCode == 1, outcome.ToString());
            Assert.Equal("QemuRefusedSnapshot", outcome.Reason);
            Assert.DoesNotContain("   at ", outcome.Process.StandardError, StringComparison.Ordinal);
        }
    }

    private static async Task RestoresAsync(string snapshot, VirtualMachineOptions waiting)
    {
        await using var target = await VirtualMachine.StartAsync(waiting);
        var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--disks=none");
        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal("running", await target.Qmp.RunStateAsync());
    }

    /// <summary>Arguments for a drive d and the devices, which are separated by semicolons.</summary>
    private string[] Devices(string devices) =>
        ["-drive", $"if=none,id=d,file={Image(1 << 20)},format=raw", .. devices.Split(';').SelectMany(d => (string[])["-device", d])];
}
