using System.Text;
using Bgsnap.SnapshotFormat.Streams;
using static Bgsnap.NodeAgent.Tests.Streams.StreamSamples;

namespace Bgsnap.NodeAgent.Tests.Streams;

public class GlobalStateTests
{
    [Theory]
    [InlineData("running", true, "paused")]
    [InlineData("paused", false, "running")]
    [InlineData("running", false, "running")]
    [InlineData("save-vm", true, "paused")]
    public void The_section_says_how_the_guest_was(string written, bool paused, string expected)
    {
        DeviceStateFile file = Parse(Device(5, "globalstate", Payload(written)));

        DeviceStateFile changed = GlobalState.With(file, paused);

        Assert.Equal(Payload(expected), Payload(changed, 1));
        Assert.Equal(file.Sections, changed.Sections);
        Assert.Equal(Payload(written), Payload(file, 1));
    }

    /// <summary>Since 8.2 the last 68 bytes hold other fields.</summary>
    [Fact]
    public void What_stands_behind_the_state_stays()
    {
        byte[] payload = Payload("running");
        payload[^68] = 1;
        payload[^1] = 7;

        byte[] changed = Payload(GlobalState.With(Parse(Device(5, "globalstate", payload)), paused: true), 1);

        Assert.Equal(payload[^68..], changed[^68..]);
    }

    /// <summary>With -global migration.store-global-state=off QEMU writes no such section.</summary>
    [Fact]
    public void A_paused_guest_gets_a_section_where_there_is_none()
    {
        DeviceStateFile added = GlobalState.With(Parse(), paused: true);

        Assert.Equal(["timer", "x", "globalstate"], added.Sections.Select(s => s.Name));
        DeviceSection section = added.Sections.Single(s => s.Name == "globalstate");
        Assert.Equal((0u, 1u), (section.InstanceId, section.Version));
        Assert.Equal(Payload("paused"), Payload(added, added.Sections.ToList().IndexOf(section)));
        Assert.Equal(2, GlobalState.With(Parse(), paused: false).Sections.Count);
    }

    [Fact]
    public void A_form_that_we_do_not_know_stays_as_it_is()
    {
        DeviceStateFile file = Parse(Device(5, "globalstate", [.. Payload("running"), 0]));

        Assert.Same(file, GlobalState.With(file, paused: true));
    }

    private static DeviceStateFile Parse(params byte[] section) =>
        DeviceStateFile.Parse((byte[])[.. FileHeader, .. Device(0, "timer", 1, 2, 3), .. section, .. Device(9, "x", 4), 0]);

    private static byte[] Payload(string state) => [.. Be32((uint)state.Length + 1), .. Encoding.ASCII.GetBytes(state.PadRight(100, '\0'))];

    private static byte[] Payload(DeviceStateFile file, int section) =>
        file.Bytes.Slice(file.Sections[section].PayloadOffset, file.Sections[section].PayloadLength).ToArray();
}
