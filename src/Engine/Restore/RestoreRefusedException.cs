namespace Bgsnap.Engine.Restore;

/// <summary>The agent did not begin the restore, because the snapshot does not fit the target. Nothing was written.</summary>
public sealed class RestoreRefusedException(string reason, string message) : Exception(message)
{
    /// <summary>A CamelCase reason for programs.</summary>
    public string Reason { get; } = reason;
}

/// <summary>The restore began and failed; the message says whether the target's guest runs.</summary>
public sealed class RestoreFailedException(string reason, string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>A CamelCase reason for programs.</summary>
    public string Reason { get; } = reason;
}
