using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

public sealed class GranuleLedgerTests : IDisposable
{
    private static readonly RamBlockLayout[] Blocks = [new("pc.ram", 8 * 65536, 4096)];
    private static readonly GranuleEntry Entry = GranuleEntry.Create(4096, 1, 4096, GranuleEncoding.Raw, 0);
    private readonly GranuleIndex _index = new(Blocks);
    private readonly GranuleLedger _ledger = new(8);

    public void Dispose()
    {
        _index.Dispose();
        _ledger.Dispose();
    }

    [Fact]
    public void Sound_when_each_that_was_copied_is_zero_or_written()
    {
        _ledger.NoteCopied(2, 3);
        _ledger.NoteZero(3);
        Write(2);
        Write(4);
        Assert.Null(_ledger.Problem(_index, 3));
    }

    [Fact]
    public void A_buffer_that_was_copied_and_lost_is_named()
    {
        _ledger.NoteCopied(0, 2);
        Write(0);
        Assert.Contains("granule 1 was copied and never written", _ledger.Problem(_index, 2));
    }

    [Fact]
    public void A_run_that_was_encoded_and_lost_is_named()
    {
        _ledger.NoteCopied(5, 1);
        _ledger.NoteEncoded(5);
        _index.Set(5, Entry);
        Assert.Contains("granule 5 was encoded and never written", _ledger.Problem(_index, 1));
    }

    [Fact]
    public void A_granule_that_was_never_copied_is_missed()
    {
        _ledger.NoteCopied(0, 1);
        Write(0);
        Assert.Contains("2 granules were to be copied, 1 were", _ledger.Problem(_index, 2));
    }

    [Fact]
    public void The_index_and_the_ledger_say_the_same()
    {
        _index.Set(6, Entry);
        Assert.Contains("granule 6 is untouched", _ledger.Problem(_index, 0));
        _index.Set(6, default);
        _ledger.NoteCopied(1, 1);
        Write(1);
        _index.Set(1, default);
        Assert.Contains("granule 1 is written", _ledger.Problem(_index, 1));
    }

    [Fact]
    public void No_granule_goes_the_same_way_twice()
    {
        _ledger.NoteCopied(1, 1);
        Assert.Throws<InvalidOperationException>(() => _ledger.NoteCopied(0, 2));
        Assert.Throws<InvalidOperationException>(() => _ledger.NoteWritten([1]));
        _ledger.NoteEncoded(1);
        Assert.Throws<InvalidOperationException>(() => _ledger.NoteZero(1));
        _ledger.NoteWritten([1]);
        Assert.Throws<InvalidOperationException>(() => _ledger.NoteWritten([1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => _ledger.NoteZero(8));
    }

    private void Write(long granule)
    {
        _ledger.NoteEncoded(granule);
        _index.Set(granule, Entry);
        _ledger.NoteWritten([granule]);
    }
}
