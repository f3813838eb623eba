using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.HarnessTests;

public class GuestReportTests
{
    [Fact]
    public void A_tick_of_the_Linux_guest_is_read()
    {
        var report = GuestReport.Parse("tick=12 writes=3000000 delta=1000 corrupt=1 checked=64 maxstall_us=2500", at: 5);

        Assert.Equal(new GuestReport(12, 3000000, 1000, 1, 64, TimeSpan.FromMilliseconds(2.5), 5), report);
    }

    [Fact]
    public void A_tick_of_the_boot_sector_is_read() =>
        Assert.Equal(new GuestReport(0x1a4, 0, 0, 2, 0, TimeSpan.Zero, 5), GuestReport.Parse("tick=000001a4 corrupt=00000002", at: 5));

    [Fact]
    public void A_line_of_latencies_is_read() =>
        Assert.Equal(
            new LatencyReport(3, TimeSpan.FromMicroseconds(0.5), TimeSpan.FromMicroseconds(7), TimeSpan.FromMilliseconds(4), 20000, 0, 5),
            LatencyReport.Parse("rate=3 p50_us=0.50 p99_us=7.00 max_us=4000.00 count=20000 skipped=0", at: 5)
        );

    [Theory]
    [InlineData("ick=13 writes=1 delta=1 corrupt=0 checked=0 maxstall_us=1")] // a restored guest goes on within a line
    [InlineData("tick=13 writes=1 del")]
    [InlineData("tick=000001")]
    [InlineData("guest=linux mode=count")]
    [InlineData("")]
    public void Other_lines_and_halves_of_lines_are_no_ticks(string line) => Assert.Null(GuestReport.Parse(line, at: 0));
}
