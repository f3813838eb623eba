namespace Bgsnap.SnapshotFormat.Store;

/// <summary>Something wrong in a snapshot.</summary>
/// <param name="File">File within the snapshot; empty for the directory itself.</param>
/// <param name="Offset">Byte offset in it, ≥ 0.</param>
/// <param name="Message">What is wrong there.</param>
public sealed record VerifyProblem(string File, long Offset, string Message)
{
    /// <inheritdoc/>
    public override string ToString() => $"{File}: at byte {Offset}: {Message}";
}

/// <summary>Progress of a verification.</summary>
/// <param name="File">The file being read.</param>
/// <param name="DoneBytes">Bytes of it read so far.</param>
/// <param name="TotalBytes">Its size in bytes.</param>
public readonly record struct VerifyProgress(string File, long DoneBytes, long TotalBytes);

/// <summary>The result of a verification.</summary>
public sealed class VerifyReport
{
    /// <summary>Problems beyond this number are counted but not kept.</summary>
    public const int MaxProblems = 1000;

    private readonly List<VerifyProblem> _problems = [];
    private readonly List<string> _foreign = [];

    /// <summary>The problems, in the order found; the first <see cref="MaxProblems"/>.</summary>
    public IReadOnlyList<VerifyProblem> Problems => _problems;

    /// <summary>All problems, kept or not.</summary>
    public long ProblemCount { get; private set; }

    /// <summary>Whether every byte of every file is as it was written.</summary>
    public bool IsSound => ProblemCount == 0;

    /// <summary>Files in the directory that are not part of the snapshot; the first <see cref="MaxProblems"/>.</summary>
    public IReadOnlyList<string> Foreign => _foreign;

    /// <summary>The manifest, if it could be read.</summary>
    public Manifest? Manifest { get; internal set; }

    /// <summary>Number of stored granules that were decoded and found correct.</summary>
    public long GoodGranules { get; internal set; }

    /// <summary>Disk files whose structure was checked to its end.</summary>
    public int GoodDisks { get; internal set; }

    /// <summary>Bytes read.</summary>
    public long BytesRead { get; internal set; }

    internal void AddForeign(string file)
    {
        if (_foreign.Count < MaxProblems)
            _foreign.Add(file);
    }

    internal void Add(string file, long offset, string message)
    {
        if (ProblemCount++ < MaxProblems)
            _problems.Add(new VerifyProblem(file, offset, message));
    }
}
