namespace Bgsnap.NodeAgent.Streams;

/// <summary>Where a stream is written to: gathers small pieces, passes large ones on as they are.</summary>
internal abstract class StreamOutput : IDisposable
{
    // Chunks of zero pages are a kilobyte each; without gathering, an empty guest would cost a system call for each.
    private readonly byte[] _gathered = new byte[64 * 1024];
    private int _gatheredLength;

    /// <summary>Bytes written so far, gathered ones included.</summary>
    public long Position { get; private set; }

    /// <summary>Bytes that have left for the destination.</summary>
    protected long SentBytes => Position - _gatheredLength;

    /// <summary>Writes all of the data.</summary>
    /// <exception cref="MigrationStreamException">The destination takes no more.</exception>
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

    /// <summary>Sends what was gathered.</summary>
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
