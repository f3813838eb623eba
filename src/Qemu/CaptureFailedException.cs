namespace Bgsnap.Qemu;

/// <summary>A capture that was started and given up; the guest continues to run.</summary>
public sealed class CaptureFailedException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="reason">A CamelCase word for programs, as in metav1.Condition.</param>
    /// <param name="message">What happened and what to do about it.</param>
    /// <param name="inner">The cause, if there is one.</param>
    public CaptureFailedException(string reason, string message, Exception? inner = null)
        : base(message, inner) => Reason = reason;

    /// <summary>A CamelCase word for programs.</summary>
    public string Reason { get; }
}
