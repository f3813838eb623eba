namespace Bgsnap.NodeAgent.Streams;

/// <summary>
/// A migration stream, or a part of one, is not what it must be, or could not be written.
/// </summary>
public sealed class MigrationStreamException : IOException
{
    /// <summary>Makes the error.</summary>
    /// <param name="message">What is wrong, in a sentence for the person who asked for the snapshot.</param>
    /// <param name="offset">Byte of the stream or file at which it is wrong.</param>
    /// <param name="innerException">The cause, if another error was it.</param>
    public MigrationStreamException(string message, long offset, Exception? innerException = null)
        : base($"{message} (at byte {offset})", innerException)
    {
        Offset = offset;
    }

    /// <summary>Byte of the stream or file, counted from its start: read so far, or written so far.</summary>
    public long Offset { get; }
}
