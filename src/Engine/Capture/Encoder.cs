using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Turns copied buffers into runs of the page log: omits zero pages, compresses, and records every granule in the index. One per thread.
/// </summary>
internal sealed unsafe class Encoder : IDisposable
{
    private readonly CapturePipeline _pipeline;
    private readonly GranuleEncoder _encoder;
    private readonly GranuleIndex _index;
    private readonly GranuleLedger _ledger;
    private readonly PageLogWriter _log;

    /// <summary>The most granules in a compressed run, which may hold many more than a buffer of raw granules.</summary>
    internal const int CompressedRun = 4096;

    // Entries of the run being built: their offsets are known only once its place in the file is.
    private readonly GranuleEntry[] _entries;
    private readonly long[] _granules;
    private readonly int[] _positions;
    private readonly Stage? _outputs;
    private int _output = -1;
    private int _pending;
    private int _used;

    internal Encoder(
        CapturePipeline pipeline,
        PageCompression compression,
        GranuleIndex index,
        GranuleLedger ledger,
        PageLogWriter log,
        Stage? outputs
    )
    {
        (_pipeline, _index, _ledger, _log, _outputs) = (pipeline, index, ledger, log, outputs);
        _encoder = new GranuleEncoder(compression);
        IsCheap = compression == PageCompression.None;
        int capacity = IsCheap ? GuestRam.GranulesPerCluster : CompressedRun;
        _entries = new GranuleEntry[capacity];
        _granules = new long[capacity];
        _positions = new int[capacity];
    }

    /// <summary>Nothing is compressed: data is packed in place.</summary>
    internal bool IsCheap { get; }

    internal void Encode(int number)
    {
        if (IsCheap)
            EncodeInPlace(number);
        else
            EncodeCompressed(number);
    }

    /// <summary>Hands over the run being built.</summary>
    internal void Flush()
    {
        if (_output >= 0 && _used > 0 && !_pipeline.IsCancelled)
            HandOver(_outputs!, _output);
        _output = -1;
    }

    private void EncodeInPlace(int number)
    {
        Stage.Buffer buffer = _pipeline.Stage[number];
        (_pending, _used) = (0, 0);
        for (int i = 0; i < buffer.Count; i++)
            Note(buffer.Granules[i], _encoder.Encode(buffer.Slot(i), buffer.Lengths[i], buffer.Memory + _used));
        if (_used == 0)
            _pipeline.Stage.Return(number);
        else
            HandOver(_pipeline.Stage, number);
    }

    private void EncodeCompressed(int number)
    {
        Stage.Buffer raw = _pipeline.Stage[number];
        for (int i = 0; i < raw.Count && !_pipeline.IsCancelled; i++)
        {
            if (_output >= 0 && (_used + GuestRam.GranuleSize > Stage.BufferSize || _pending == _entries.Length))
            {
                HandOver(_outputs!, _output);
                _output = -1;
            }
            while (_output < 0 && !_pipeline.IsCancelled)
            {
                _output = _outputs!.TryTake(forFault: true);
                if (_output < 0)
                    _outputs.WaitFreed(20);
                else
                    (_pending, _used) = (0, 0);
            }
            if (_output >= 0)
                Note(raw.Granules[i], _encoder.Encode(raw.Slot(i), raw.Lengths[i], _outputs![_output].Memory + _used));
        }
        _pipeline.Stage.Return(number);
    }

    private void Note(long granule, GranuleEntry entry)
    {
        if (entry.IsZero)
        {
            _ledger.NoteZero(granule);
            return;
        }
        _ledger.NoteEncoded(granule);
        _granules[_pending] = granule;
        _entries[_pending] = entry;
        _positions[_pending++] = _used;
        _used += entry.StoredLength;
    }

    private void HandOver(Stage stage, int number)
    {
        Stage.Buffer buffer = stage[number];
        int length = (int)FormatV1.Align(_used);
        new Span<byte>(buffer.Memory + _used, length - _used).Clear();
        buffer.EncodedLength = length;
        buffer.FileOffset = _log.Reserve(length);
        for (int i = 0; i < _pending; i++)
            _index.Set(_granules[i], _entries[i].WithOffset(buffer.FileOffset + _positions[i]));
        Array.Copy(_granules, buffer.Run, _pending);
        buffer.RunCount = _pending;
        (_pending, _used) = (0, 0);
        _pipeline.HandToFile(stage, number);
    }

    /// <inheritdoc/>
    public void Dispose() => _encoder.Dispose();
}
