namespace Bgsnap.Qemu;

/// <summary>Work that is not started, because it could not be correct or could harm the guest: a capture, a restore, a release.</summary>
public sealed class RefusedException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="reason">A CamelCase word for programs, as in metav1.Condition.</param>
    /// <param name="message">What prevents it, and what to do about it.</param>
    public RefusedException(string reason, string message)
        : base(message) => Reason = reason;

    /// <summary>A CamelCase word for programs.</summary>
    public string Reason { get; }
}
