using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Processes;

namespace Bgsnap.NodeAgent.Tests.Cli;

public sealed class ProgressBarTests
{
    private static readonly ProgressLine Capture = new("progress", "Copying", 41.5, 0, 0, 3L << 30, 0, 1.5 * (1 << 30), 1234);

    private static readonly RestoreProgressLine Restore = new("progress", "Memory", 99.9, 0, 0, 1.5 * (1 << 30), 12);

    [Fact]
    public void A_capture_shows_its_phase_rate_remaining_memory_and_faults() =>
        Assert.Equal("\r\e[KCopying    [#####.........]  41.5 %  1.50 GiB/s  3072 MiB left  1234 faults", ProgressBar.Text(Capture));

    [Fact]
    public void A_restore_shows_its_phase_and_rate() =>
        Assert.Equal("\r\e[KMemory     [#############.]  99.9 %  1.50 GiB/s  12 faults", ProgressBar.Text(Restore));

    [Fact]
    public void An_export_shows_its_rate() =>
        Assert.Equal("\r\e[KWriting    [##############] 100.0 %  2.00 GiB/s", ProgressBar.Text(100, 2.0 * (1 << 30)));

    // A line that wraps is not overwritten: each report would add one.
    [Theory]
    [InlineData(0, 0)]
    [InlineData(100, 12_345_678)]
    [InlineData(99.9, long.MaxValue)]
    public void No_line_wraps_on_80_columns(double percent, long much)
    {
        ProgressLine capture = Capture with
        {
            Phase = "Protecting",
            Percent = percent,
            PendingBytes = much,
            Faults = much,
            BytesPerSecond = much,
        };
        foreach (
            string line in new[]
            {
                ProgressBar.Text(capture),
                ProgressBar.Text(Restore with { Phase = "Recovering", Percent = percent, Faults = much, BytesPerSecond = much }),
                ProgressBar.Text(percent, much),
            }
        )
            Assert.InRange(line.Length - "\r\e[K".Length, 1, 79);
    }
}
