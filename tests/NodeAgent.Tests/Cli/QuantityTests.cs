using Bgsnap.NodeAgent.Cli;

namespace Bgsnap.NodeAgent.Tests.Cli;

public sealed class QuantityTests
{
    [Theory]
    [InlineData("0", 0)]
    [InlineData("4096", 4096)]
    [InlineData("1Ki", 1024)]
    [InlineData("512Mi", 512L << 20)]
    [InlineData("2Gi", 2L << 30)]
    [InlineData("1Ti", 1L << 40)]
    [InlineData("1.5Gi", 3L << 29)]
    [InlineData("0.5k", 500)]
    [InlineData("3K", 3000)]
    [InlineData("2M", 2_000_000)]
    [InlineData("2G", 2_000_000_000)]
    [InlineData("1T", 1_000_000_000_000)]
    [InlineData("5KiB", 5120)]
    [InlineData("10MB", 10_000_000)]
    [InlineData("500Mi/s", 500L << 20)]
    [InlineData("500MiB/s", 500L << 20)]
    [InlineData(" 7Mi ", 7L << 20)]
    public void A_size_is_read(string text, long bytes) => Assert.Equal(bytes, Quantity.ParseSize(text));

    [Theory]
    [InlineData("")]
    [InlineData("B")]
    [InlineData("/s")]
    [InlineData("Mi")]
    [InlineData("-1")]
    [InlineData("+1")]
    [InlineData("1e3")]
    [InlineData("1,5G")]
    [InlineData("5 Mi")]
    [InlineData("5mi")]
    [InlineData("5Pi")]
    [InlineData("0x10")]
    [InlineData("1.2.3")]
    [InlineData("NaN")]
    [InlineData("Infinity")]
    [InlineData("10000000T")]
    [InlineData("512Mi512")]
    public void What_is_no_size_is_refused(string text) => Assert.Null(Quantity.ParseSize(text));

    [Theory]
    [InlineData("100us", 100)]
    [InlineData("100\u00b5s", 100)]
    [InlineData("250ms", 250_000)]
    [InlineData("0.5ms", 500)]
    [InlineData("2s", 2_000_000)]
    [InlineData("1.5m", 90_000_000)]
    [InlineData("1h", 3_600_000_000)]
    [InlineData("0s", 0)]
    public void A_time_is_read(string text, long microseconds) =>
        Assert.Equal(TimeSpan.FromMicroseconds(microseconds), Quantity.ParseTime(text));

    [Theory]
    [InlineData("")]
    [InlineData("5")]
    [InlineData("ms")]
    [InlineData("-1s")]
    [InlineData("5 ms")]
    [InlineData("1d")]
    [InlineData("5S")]
    [InlineData("NaNs")]
    [InlineData("99999999999999h")]
    public void What_is_no_time_is_refused(string text) => Assert.Null(Quantity.ParseTime(text));

    [Theory]
    [InlineData(0, "0 B")]
    [InlineData(1023, "1023 B")]
    [InlineData(1536, "1.5 KiB")]
    [InlineData(512L << 20, "512 MiB")]
    [InlineData(3L << 29, "1.5 GiB")]
    [InlineData(2048L << 40, "2048 TiB")]
    public void A_size_is_written(long bytes, string text) => Assert.Equal(text, Quantity.FormatSize(bytes));

    [Theory]
    [InlineData(0, "0 µs")]
    [InlineData(999, "999 µs")]
    [InlineData(1000, "1 ms")]
    [InlineData(12_345, "12.35 ms")]
    [InlineData(1_500_000, "1.5 s")]
    public void A_time_is_written(long microseconds, string text) => Assert.Equal(text, Quantity.FormatTime(microseconds));
}
