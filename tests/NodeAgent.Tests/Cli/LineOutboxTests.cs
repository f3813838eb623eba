using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Processes;

namespace Bgsnap.NodeAgent.Tests.Cli;

public sealed class LineOutboxTests
{
    [Fact]
    public void A_reader_that_does_not_read_holds_up_nobody_and_hears_the_latest()
    {
        using ManualResetEventSlim begun = new(),
            reads = new();
        List<string> heard = [];
        LineOutbox outbox = new(line =>
        {
            begun.Set();
            reads.Wait();
            lock (heard)
                heard.Add(line);
        });
        outbox.Offer("0");
        begun.Wait();
        for (int i = 1; i < 1000; i++)
            outbox.Offer($"{i}");
        outbox.Say("end");
        Assert.False(outbox.Flush(TimeSpan.FromMilliseconds(10)));
        reads.Set();
        Assert.True(outbox.Flush(TimeSpan.FromSeconds(30)));
        Assert.Equal(["0", "999", "end"], heard);
    }

    [Fact]
    public void Lines_of_any_length_are_read_and_those_that_are_too_long_left_out()
    {
        string text = $"short\n{new string('x', 70_000)}\n{new string('y', 40_000)}\r\n\nlast";
        BoundedLineReader lines = new(new MemoryStream(System.Text.Encoding.UTF8.GetBytes(text)), most: 50_000);
        Assert.Equal("short", lines.Next());
        Assert.Equal(40_000, lines.Next()!.Length);
        Assert.Equal("", lines.Next());
        Assert.Equal("last", lines.Next());
        Assert.Null(lines.Next());
    }

    [Theory]
    [InlineData(10)]
    [InlineData(16 * 1024)]
    [InlineData(100_000)]
    public async Task Of_what_was_said_the_last_is_kept(int most)
    {
        string text = string.Concat(Enumerable.Range(0, 20_000).Select(i => $"{i} "));
        string kept = await BoundedLineReader.Tail(new MemoryStream(System.Text.Encoding.ASCII.GetBytes(text)), most);
        Assert.Equal(text[^Math.Min(most, text.Length)..], kept);
    }
}
