using System.Globalization;
using System.Xml.Linq;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>The domain XML of a test machine, with everything from KubeVirt's domains that matters to a capture.</summary>
internal static class DomainXml
{
    private static readonly XNamespace Qemu = "http://libvirt.org/schemas/domain/qemu/1.0";

    /// <param name="options">The machine.</param>
    /// <param name="name">The domain's name.</param>
    /// <param name="uuid">The domain's UUID.</param>
    /// <param name="folder">The folder with its images and the socket of its serial port.</param>
    /// <param name="arguments">Additional QEMU arguments, of which libvirt knows nothing.</param>
    public static string Of(VirtualMachineOptions options, string name, Guid uuid, string folder, params IReadOnlyList<string> arguments)
    {
        var guest = (LinuxGuest)options.Guest;
        XElement domain = new(
            "domain",
            new XAttribute("type", "qemu"),
            new XAttribute(XNamespace.Xmlns + "qemu", Qemu),
            new XElement("name", name),
            new XElement("uuid", uuid),
            new XElement("memory", new XAttribute("unit", "MiB"), options.MemoryMiB),
            options.Ram == RamKind.Memfd
                ? new XElement(
                    "memoryBacking",
                    new XElement("source", new XAttribute("type", "memfd")),
                    new XElement("access", new XAttribute("mode", "shared"))
                )
                : null,
            new XElement("vcpu", options.Cpus),
            new XElement(
                "os",
                new XElement("type", new XAttribute("arch", "x86_64"), new XAttribute("machine", "pc-q35-10.0"), "hvm"),
                new XElement("kernel", TestFiles.Kernel),
                new XElement("initrd", guest.Agent ? TestFiles.InitramfsWithAgent : TestFiles.Initramfs),
                new XElement("cmdline", QemuCommandLine.KernelCommandLine(guest))
            ),
            new XElement("features", new XElement("acpi"), new XElement("apic")),
            new XElement(
                "devices",
                new XElement("emulator", TestFiles.Qemu(QemuVersion.Unpacked10)),
                new XElement("controller", new XAttribute("type", "usb"), new XAttribute("model", "none")),
                new XElement(
                    "serial",
                    new XAttribute("type", "unix"),
                    new XElement("source", new XAttribute("mode", "connect"), new XAttribute("path", QemuCommandLine.SerialSocket(folder)))
                ),
                options.GuestAgent
                    ? new XElement(
                        "channel",
                        new XAttribute("type", "unix"),
                        new XElement("target", new XAttribute("type", "virtio"), new XAttribute("name", "org.qemu.guest_agent.0"))
                    )
                    : null,
                new XElement("memballoon", new XAttribute("model", "none")),
                options.Disks.Select((disk, i) => Disk(disk, i, folder))
            ),
            arguments.Count > 0
                ? new XElement(Qemu + "commandline", arguments.Select(word => new XElement(Qemu + "arg", new XAttribute("value", word))))
                : null
        );
        return domain.ToString();
    }

    private static XElement Disk(TestDisk disk, int number, string folder) =>
        new(
            "disk",
            new XAttribute("type", "file"),
            new XAttribute("device", "disk"),
            new XElement(
                "driver",
                new XAttribute("name", "qemu"),
                new XAttribute("type", TestDisks.Driver(disk)),
                new XAttribute("cache", "unsafe")
            ),
            new XElement("source", new XAttribute("file", TestDisks.ImageOf(disk, folder))),
            new XElement("target", new XAttribute("dev", "vd" + (char)('a' + number)), new XAttribute("bus", "virtio"))
        );
}
