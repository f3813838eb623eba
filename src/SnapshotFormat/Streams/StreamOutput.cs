namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>The destination of a stream: gathers small pieces and passes large ones on unchanged.</summary>
internal abstract class StreamOutput : IDisposable
{
    // A chunk of zero pages is about a kilobyte; without gathering, an empty guest would cost a system call for each chunk.
    private readonly byte[] _gathered = new byte[64 * 1024];
    private int _gatheredLength;

    /// <summary>Bytes written so far, gathered ones included.</summary>
    public long Position { get; private set; }

    /// <summary>Bytes already sent to the destination.</summary>
    protected long SentBytes => Position - _gatheredLength;

    /// <summary>Writes all of the data.</summary>
    /// <exception cref="MigrationStreamException">The destination accepts no more data.</exception>
    public void Write(ReadOnlySpan<byte> data)
    {
        bool large = data.Length > _gathered.Length / 2;
        if (large || _gatheredLength + data.Length > _gathered.Length)
            Flush();
        if (large)
        {
            WriteThrough(data);
        }
        else
        {
            data.CopyTo(_gathered.AsSpan(_gatheredLength));
            _gatheredLength += data.Length;
        }
        Position += data.Length;
    }

    /// <summary>Sends the gathered bytes.</summary>
    public void Flush()
    {
        WriteThrough(_gathered.AsSpan(0, _gatheredLength));
        _gatheredLength = 0;
    }

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>Sends all of the data to the destination.</summary>
    protected abstract void WriteThrough(ReadOnlySpan<byte> data);
}
