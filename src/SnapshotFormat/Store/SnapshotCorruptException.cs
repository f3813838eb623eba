namespace Bgsnap.SnapshotFormat.Store;

/// <summary>A file of a snapshot is damaged or invalid.</summary>
/// <param name="file">The file, as the caller named it or relative to the snapshot.</param>
/// <param name="offset">Byte offset of the error, ≥ 0.</param>
/// <param name="message">What is wrong there.</param>
public sealed class SnapshotCorruptException(string file, long offset, string message) : Exception($"{file}: at byte {offset}: {message}")
{
    /// <summary>The file.</summary>
    public string File { get; } = file;

    /// <summary>Byte offset of the error.</summary>
    public long Offset { get; } = offset;

    /// <summary>What is wrong, without file and offset.</summary>
    public string Problem { get; } = message;
}
