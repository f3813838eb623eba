namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>Writes to a .NET stream, which stays open.</summary>
internal sealed class ManagedStreamOutput(Stream stream, CancellationToken cancellationToken) : StreamOutput
{
    /// <inheritdoc/>
    public override void Dispose() { }

    /// <inheritdoc/>
    protected override void WriteThrough(ReadOnlySpan<byte> data)
    {
        cancellationToken.ThrowIfCancellationRequested();
        try
        {
            stream.Write(data);
        }
        catch (IOException e) when (e is not MigrationStreamException)
        {
            throw new MigrationStreamException($"The migration stream could not be written: {e.Message}", SentBytes, e);
        }
    }
}
