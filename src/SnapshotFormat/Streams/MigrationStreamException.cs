namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>A migration stream, or a part of one, is invalid or could not be written.</summary>
public sealed class MigrationStreamException : IOException
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">What is wrong, in a sentence for the user who asked for the snapshot.</param>
    /// <param name="offset">Offset of the error in the stream or file.</param>
    /// <param name="innerException">The cause, if another error caused it.</param>
    public MigrationStreamException(string message, long offset, Exception? innerException = null)
        : base($"{message} (at byte {offset})", innerException)
    {
        Offset = offset;
    }

    /// <summary>Offset in the stream or file, from its start: read so far, or written so far.</summary>
    public long Offset { get; }
}
