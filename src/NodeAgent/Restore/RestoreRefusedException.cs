namespace Bgsnap.NodeAgent.Restore;

/// <summary>A restore that is not begun, because the target is not one that this snapshot fits. Nothing was written.</summary>
public sealed class RestoreRefusedException(string reason, string message) : Exception(message)
{
    /// <summary>A CamelCase word for programs.</summary>
    public string Reason { get; } = reason;
}

/// <summary>A restore that was begun and given up; the message says whether the target's guest runs.</summary>
public sealed class RestoreFailedException(string reason, string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>A CamelCase word for programs.</summary>
    public string Reason { get; } = reason;
}
