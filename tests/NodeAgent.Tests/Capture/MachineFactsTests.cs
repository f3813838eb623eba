using Bgsnap.Engine.Capture;
using Bgsnap.NodeAgent.Tests.Qmp;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.NodeAgent.Tests.Capture;

/// <summary>Two looks at a machine: every difference is named.</summary>
public sealed class MachineFactsTests
{
    [Theory]
    [InlineData("dimm1=pc-dimm,vda=virtio-blk", "dimm1 was added")]
    [InlineData("", "vda was removed")]
    [InlineData("vda=scsi-hd", "vda changed from 'virtio-blk' to 'scsi-hd'")]
    [InlineData("vda=virtio-blk", null)]
    public void The_first_difference_is_named(string now, string? difference) =>
        Assert.Equal(difference, MachineFacts.DifferenceOf(Parse("vda=virtio-blk"), Parse(now)));

    /// <summary>
    /// Unattached objects that are not devices belong to what the guest itself changes; a device without an id is named by its number.
    /// </summary>
    [Fact]
    public void Devices_without_an_id_are_told_from_what_is_called_like_them()
    {
        using FakeQmpServer server = FakeQmpServer.Greeted(s =>
        {
            for (string command; (command = s.ReadCommand()).Length > 0; )
            {
                s.Send(
                    command.Contains("/machine/unattached", StringComparison.Ordinal)
                        ? """{"return": [{"name": "device[0]", "type": "child<qemu64-x86_64-cpu>"}, {"name": "device-bar[0]", "type": "child<memory-region>"}, {"name": "type", "type": "string"}]}"""
                    : command.Contains("peripheral-anon", StringComparison.Ordinal)
                        ? """{"return": [{"name": "device[0]", "type": "child<virtio-net-pci>"}, {"name": "device device[0]", "type": "child<edu>"}]}"""
                    : """{"return": [{"name": "vda", "type": "child<virtio-blk-pci>"}]}"""
                );
            }
        });
        using QmpClient qmp = QmpClient.Connect(server.Path);

        IReadOnlyDictionary<string, string> devices = MachineState.Devices(qmp);

        Assert.Equal(
            ["peripheral-anon/device device[0]", "peripheral-anon/device[0]", "peripheral/vda", "unattached/device[0]"],
            devices.Keys.Order(StringComparer.Ordinal)
        );
        Assert.Equal(
            "peripheral-anon/device[0] was removed",
            MachineFacts.DifferenceOf(devices, devices.Where(d => d.Key != "peripheral-anon/device[0]").ToDictionary())
        );
    }

    [Theory]
    [InlineData("""{"device": "vdb", "path": "/machine/peripheral/vdb"}""", "vdb")]
    [InlineData("""{"path": "/machine/peripheral-anon/device[0]"}""", "/machine/peripheral-anon/device[0]")]
    [InlineData("""{"device": "device device[0]"}""", "device device[0]")]
    [InlineData("""{"device": "", "id": null, "path": 5}""", null)]
    [InlineData("{}", null)]
    [InlineData("", null)]
    public void What_an_event_is_about_has_a_name(string data, string? subject) =>
        Assert.Equal(subject, MachineState.SubjectOf(new QmpEvent("DEVICE_DELETED", 1, data)));

    [Theory]
    [InlineData("[]")]
    [InlineData("no JSON")]
    public void Odd_data_of_an_event_are_an_error_with_a_name(string data) =>
        Assert.Contains(
            "DEVICE_DELETED",
            Assert.Throws<QmpException>(() => MachineState.SubjectOf(new QmpEvent("DEVICE_DELETED", 1, data))).Message,
            StringComparison.Ordinal
        );

    private static Dictionary<string, string> Parse(string text) =>
        text.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(p => p.Split('=')).ToDictionary(p => p[0], p => p[1]);
}
