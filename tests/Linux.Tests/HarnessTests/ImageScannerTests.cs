using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.HarnessTests;

/// <summary>Tests the scanner of every capture test: it must detect each way in which an image can be torn.</summary>
public class ImageScannerTests
{
    private const int Pages = 10;

    [Fact]
    public void One_pass_up_to_a_place_and_the_one_before_after_it_is_one_cut()
    {
        var verdict = Judge(Image(place: 4, counter: 7));

        Assert.True(verdict.IsOneCut, verdict.ToString());
        Assert.Equal((7ul, 4, Pages), (verdict.Writers[0].Counter, verdict.Writers[0].Place, verdict.Writers[0].Found));
    }

    [Theory]
    [InlineData(Pages)]
    [InlineData(1)]
    public void The_ends_of_a_pass_are_cuts_too(int place) => Assert.True(Judge(Image(place, counter: 3)).IsOneCut);

    [Fact]
    public void A_guest_that_has_only_filled_its_memory_is_one_cut()
    {
        var verdict = Judge([.. Enumerable.Range(0, Pages).Select(i => Page(i, 0))]);

        Assert.True(verdict.IsOneCut, verdict.ToString());
    }

    [Fact]
    public void The_order_in_memory_does_not_matter()
    {
        var pages = Image(place: 4, counter: 7);
        pages.Reverse();

        Assert.True(Judge(pages).IsOneCut);
    }

    [Fact]
    public void A_page_from_after_the_cut_is_torn()
    {
        var pages = Image(place: 4, counter: 7);
        pages[8] = Page(8, 7);

        Assert.Equal(Cut.Torn, Judge(pages).Cut);
    }

    [Fact]
    public void A_page_from_before_the_cut_is_torn()
    {
        var pages = Image(place: 4, counter: 7);
        pages[2] = Page(2, 6);

        Assert.Equal(Cut.Torn, Judge(pages).Cut);
    }

    [Fact]
    public void Three_passes_in_one_image_are_torn()
    {
        var pages = Image(place: 4, counter: 7);
        pages[9] = Page(9, 5);

        Assert.Equal(Cut.Torn, Judge(pages).Cut);
    }

    [Fact]
    public void Values_that_rise_along_the_pages_are_torn()
    {
        var pages = Image(place: Pages, counter: 6);
        pages[9] = Page(9, 7);

        Assert.Equal(Cut.Torn, Judge(pages).Cut);
    }

    [Fact]
    public void The_page_written_last_may_be_caught_between_its_ends()
    {
        var pages = Image(place: 4, counter: 7);
        pages[3] = ImageScanner.MakePage(0, Pages, 3, head: 7, tail: 6);

        Assert.True(Judge(pages).IsOneCut);
    }

    [Fact]
    public void Any_other_page_with_different_ends_is_torn()
    {
        var pages = Image(place: 4, counter: 7);
        pages[1] = ImageScanner.MakePage(0, Pages, 1, head: 7, tail: 6);

        Assert.Equal(Cut.Torn, Judge(pages).Cut);
    }

    [Fact]
    public void A_damaged_filler_is_torn()
    {
        var pages = Enumerable.Range(0, Pages).Select(i => ImageScanner.MakePage(0, Pages, i, 3, 3, seed: 0x5eed0001)).ToList();
        Assert.True(Judge(pages).IsOneCut);

        pages[5][2000] ^= 1;

        Assert.Equal(Cut.Torn, Judge(pages).Cut);
    }

    [Fact]
    public void A_page_that_is_there_twice_is_torn()
    {
        var pages = Image(place: 4, counter: 7);
        pages.Add(Page(2, 7));

        Assert.Equal(Cut.Torn, Judge(pages).Cut);
    }

    [Fact]
    public void A_missing_page_is_no_cut()
    {
        var pages = Image(place: 4, counter: 7);
        pages.RemoveAt(6);

        Assert.Equal(Cut.Incomplete, Judge(pages).Cut);
    }

    [Fact]
    public void An_image_without_a_guest_is_no_cut() => Assert.Equal(Cut.Incomplete, Judge([new byte[ImageScanner.PageSize]]).Cut);

    [Fact]
    public void Every_writer_is_judged_by_itself()
    {
        var pages = Image(place: 4, counter: 7);
        pages.AddRange(Enumerable.Range(0, Pages).Select(i => ImageScanner.MakePage(1, Pages, i, 90, 90)));
        Assert.True(Judge(pages).IsOneCut);

        pages[^1] = ImageScanner.MakePage(1, Pages, Pages - 1, 91, 91);
        var verdict = Judge(pages);

        Assert.Equal(Cut.Torn, verdict.Cut);
        Assert.Equal(Cut.OneCut, verdict.Writers[0].Cut);
        Assert.Equal(Cut.Torn, verdict.Writers[1].Cut);
    }

    [Fact]
    public void The_boot_sectors_image_is_judged_by_the_same_rule()
    {
        var image = new byte[BootSectorScanner.End];
        for (var offset = (int)BootSectorScanner.First; offset < image.Length; offset += ImageScanner.PageSize)
        {
            BitConverter.TryWriteBytes(image.AsSpan(offset), offset < 50 << 20 ? 9u : 8u);
            BitConverter.TryWriteBytes(image.AsSpan(offset + 4), BootSectorScanner.Magic);
        }

        int Read(long offset, Span<byte> buffer)
        {
            image.AsSpan((int)offset, buffer.Length).CopyTo(buffer);
            return buffer.Length;
        }

        var verdict = BootSectorScanner.Judge(image.Length, Read);
        Assert.True(verdict.IsOneCut, verdict.ToString());
        Assert.Equal(49 << 20 >> 12, verdict.Writers[0].Place);

        BitConverter.TryWriteBytes(image.AsSpan(90 << 20), 9u);
        Assert.Equal(Cut.Torn, BootSectorScanner.Judge(image.Length, Read).Cut);

        BitConverter.TryWriteBytes(image.AsSpan((90 << 20) + 4), 0u);
        Assert.Equal(Cut.Incomplete, BootSectorScanner.Judge(image.Length, Read).Cut);
    }

    private static List<byte[]> Image(int place, ulong counter) =>
        [.. Enumerable.Range(0, Pages).Select(i => Page(i, i < place ? counter : counter - 1))];

    private static byte[] Page(int index, ulong value) => ImageScanner.MakePage(0, Pages, index, value, value);

    private static CutVerdict Judge(IEnumerable<byte[]> pages)
    {
        var scanner = new ImageScanner();
        foreach (var page in pages)
            scanner.AddPages(page);
        return scanner.Judge();
    }
}
