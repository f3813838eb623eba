namespace Bgsnap.NodeAgent.Qmp;

/// <summary>QEMU refused a command, or the conversation with it broke.</summary>
public sealed class QmpException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">What happened, naming the command.</param>
    /// <param name="errorClass">QEMU's error class, such as <c>CommandNotFound</c>; null when the conversation broke.</param>
    public QmpException(string message, string? errorClass = null)
        : base(message) => ErrorClass = errorClass;

    /// <summary>QEMU's error class (qapi/error.json), null when the conversation itself broke.</summary>
    public string? ErrorClass { get; }

    /// <summary>QEMU is there and did not answer in time.</summary>
    public bool TimedOut { get; init; }

    /// <summary>The other side sent more than anybody needs, as to exhaust us.</summary>
    public bool Floods { get; init; }

    /// <summary>QEMU is there and answered with something that an answer to this command cannot be.</summary>
    public bool IsOdd { get; init; }

    /// <summary>
    /// Whoever owns the monitor went away in the middle and is back: QEMU lives, and may or may not have run the command.
    /// </summary>
    public bool Interrupted { get; init; }
}
