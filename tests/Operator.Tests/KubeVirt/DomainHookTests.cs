using System.Xml.Linq;
using Bgsnap.Operator.KubeVirt.Hook;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>How the hook changes KubeVirt's domain.</summary>
public sealed class DomainHookTests
{
    private const string Domain = """
        <domain type="kvm">
          <name>prod_again</name>
          <os><type arch="x86_64" machine="q35">hvm</type></os>
          <cpu mode="host-model"/>
          <devices>
            <emulator>/usr/bin/qemu-kvm</emulator>
            <controller type="usb" index="0" model="none"/>
            <controller type="scsi" index="0" model="virtio-non-transitional"/>
            <disk type="file" device="disk"><target dev="vda" bus="virtio"/><alias name="ua-root"/></disk>
            <disk type="file" device="disk"><target dev="vdb" bus="virtio"/><alias name="ua-data"/></disk>
            <disk type="file" device="disk"><target dev="vdc" bus="virtio"/><alias name="ua-new"/></disk>
            <interface type="ethernet"><mac address="02:00:00:00:00:02"/><alias name="ua-default"/></interface>
            <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
            <memballoon model="virtio-non-transitional"/>
          </devices>
        </domain>
        """;

    private const string Captured = """
        <domain type="kvm">
          <name>prod_db</name>
          <os><type arch="x86_64" machine="pc-q35-rhel9.6.0">hvm</type></os>
          <cpu mode="custom" match="exact"><model>Skylake</model></cpu>
          <devices>
            <emulator>/usr/bin/qemu-kvm</emulator>
            <controller type="usb" index="0" model="none"/>
            <controller type="pci" index="0" model="pcie-root"/>
            <controller type="pci" index="1" model="pcie-root-port"><address type="pci" bus="0x00" slot="0x02"/></controller>
            <controller type="scsi" index="0" model="virtio-non-transitional"><address type="pci" bus="0x01" slot="0x00"/></controller>
            <disk type="file" device="disk"><target dev="vda" bus="virtio"/><alias name="ua-data"/><address type="pci" bus="0x04" slot="0x00"/></disk>
            <disk type="file" device="disk"><target dev="vdb" bus="virtio"/><alias name="ua-root"/><address type="pci" bus="0x05" slot="0x00"/></disk>
            <interface type="ethernet"><mac address="02:00:00:00:00:01"/><alias name="ua-default"/><address type="pci" bus="0x06" slot="0x00"/></interface>
            <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/><address type="virtio-serial" controller="0" bus="0" port="2"/></channel>
            <memballoon model="virtio-non-transitional"><address type="pci" bus="0x07" slot="0x00"/></memballoon>
          </devices>
        </domain>
        """;

    private static readonly XNamespace Qemu = "http://libvirt.org/schemas/domain/qemu/1.0";

    [Fact]
    public void The_domain_waits_for_a_snapshot_and_equals_the_captured_machine()
    {
        XElement made = XElement.Parse(DomainHook.Apply(Domain, Captured)),
            devices = made.Element("devices")!;

        Assert.Equal(
            ["-incoming", "defer"],
            made.Element(Qemu + "commandline")!.Elements(Qemu + "arg").Select(a => a.Attribute("value")!.Value)
        );
        Assert.Equal("pc-q35-rhel9.6.0", made.Element("os")!.Element("type")!.Attribute("machine")!.Value);
        Assert.Equal(
            ("custom", "Skylake"),
            (made.Elements("cpu").Single().Attribute("mode")!.Value, made.Element("cpu")!.Element("model")!.Value)
        );
        // Matched by name, in whatever order.
        Assert.Equal(
            [("ua-root", "0x05"), ("ua-data", "0x04"), ("ua-new", null), ("ua-default", "0x06")],
            devices
                .Elements()
                .Where(d => d.Element("alias") is not null)
                .Select(d => (d.Element("alias")!.Attribute("name")!.Value, d.Element("address")?.Attribute("bus")?.Value))
        );
        Assert.Equal("2", devices.Element("channel")!.Element("address")!.Attribute("port")!.Value);
        Assert.Equal("0x07", devices.Element("memballoon")!.Element("address")!.Attribute("bus")!.Value);
        Assert.Equal(
            ["usb none", "pci pcie-root", "pci pcie-root-port", "scsi virtio-non-transitional"],
            devices.Elements("controller").Select(c => $"{c.Attribute("type")!.Value} {c.Attribute("model")!.Value}")
        );
        // Whatever belongs to this VM alone stays.
        Assert.Equal(
            ("prod_again", "02:00:00:00:00:02"),
            (made.Element("name")!.Value, devices.Element("interface")!.Element("mac")!.Attribute("address")!.Value)
        );
    }

    [Fact]
    public void An_existing_command_line_is_kept()
    {
        string domain = Domain
            .Replace("<domain type=\"kvm\">", $"<domain type=\"kvm\" xmlns:qemu=\"{Qemu.NamespaceName}\">", StringComparison.Ordinal)
            .Replace(
                "</domain>",
                "<qemu:commandline><qemu:arg value=\"-trace\"/><qemu:env name=\"A\" value=\"b\"/></qemu:commandline></domain>",
                StringComparison.Ordinal
            );

        XElement line = XElement.Parse(DomainHook.Apply(domain, Captured)).Elements(Qemu + "commandline").Single();

        Assert.Equal(
            ["arg -incoming", "arg defer", "arg -trace", "env b"],
            line.Elements().Select(e => $"{e.Name.LocalName} {e.Attribute("value")!.Value}")
        );
    }
}
