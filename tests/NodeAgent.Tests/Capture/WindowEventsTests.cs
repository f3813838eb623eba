using Bgsnap.Engine.Capture;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.NodeAgent.Tests.Capture;

/// <summary>What QEMU's events prove about a stop window. The agent sends the stop at 100 and protects memory at 200.</summary>
public sealed class WindowEventsTests
{
    [Theory]
    [InlineData("STOP 110, RESUME 210", 110, 210)]
    [InlineData("STOP 50, RESUME 60, STOP 110, RESUME 210", 110, 210)] // a user's, before
    [InlineData("STOP 110, RESUME 210, STOP 220, RESUME 230", 110, 210)] // a user's, afterwards
    [InlineData("STOP 110, DUMP_COMPLETED 205, RESUME 210", 110, 210)]
    [InlineData("STOP 110", 110, 0)] // stays stopped
    [InlineData("", 0, 0)] // stood still before
    [InlineData("RESUME 210", 0, 0)] // stood still before, and a user resumed it afterwards
    [InlineData("RESET 50, STOP 110, RESUME 210", 110, 210)]
    public void A_guest_that_stood_still_is_proved(string told, long stopped, long resumed)
    {
        WindowEvents events = Hear(told);

        Assert.Equal((stopped, resumed, null), (events.StoppedAt, events.ResumedAt, events.Moved));
    }

    [Theory]
    [InlineData("STOP 110, RESUME 150", "RESUME")]
    [InlineData("STOP 110, RESUME 150, STOP 160, RESUME 210", "RESUME")]
    [InlineData("RESUME 150", "RESUME")]
    [InlineData("RESUME 105, STOP 110, RESUME 210", "RESUME")]
    [InlineData("STOP 110, STOP 120, RESUME 210", "STOP")]
    [InlineData("STOP 110, RESET 150, RESUME 210", "RESET")]
    [InlineData("SUSPEND 105", "SUSPEND")]
    [InlineData("WAKEUP 150", "WAKEUP")]
    public void A_guest_that_moved_is_found_out(string told, string what) => Assert.Equal(what, Hear(told).Moved);

    /// <summary>Through libvirt, events arrive long after the window.</summary>
    [Fact]
    public void Events_count_by_their_time_and_not_by_when_they_come()
    {
        WindowEvents events = new();
        events.Begin(100);
        events.Protected(200);
        foreach (QmpEvent e in Parse("STOP 110, RESUME 150"))
            events.Note(e);

        Assert.Equal("RESUME", events.Moved);
    }

    private static WindowEvents Hear(string told)
    {
        WindowEvents events = new();
        List<QmpEvent> all = Parse(told);
        events.Begin(100);
        foreach (QmpEvent e in all.Where(e => e.Timestamp < 200))
            events.Note(e);
        events.Protected(200);
        foreach (QmpEvent e in all.Where(e => e.Timestamp >= 200))
            events.Note(e);
        return events;
    }

    private static List<QmpEvent> Parse(string told) =>
        [
            .. told.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
                .Select(t => t.Split(' '))
                .Select(t => new QmpEvent(t[0], long.Parse(t[1], System.Globalization.CultureInfo.InvariantCulture), "")),
        ];
}
