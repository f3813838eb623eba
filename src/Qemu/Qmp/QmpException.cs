namespace Bgsnap.Qemu.Qmp;

/// <summary>QEMU refused a command, or the connection to it broke.</summary>
public sealed class QmpException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">What happened, naming the command.</param>
    /// <param name="errorClass">QEMU's error class, such as <c>CommandNotFound</c>; null: the connection broke.</param>
    public QmpException(string message, string? errorClass = null)
        : base(message) => ErrorClass = errorClass;

    /// <summary>QEMU's error class (qapi/error.json); null: the connection itself broke.</summary>
    public string? ErrorClass { get; }

    /// <summary>QEMU is there but did not answer in time.</summary>
    public bool TimedOut { get; init; }

    /// <summary>The other side sent more than anybody needs, as if to exhaust us.</summary>
    public bool Floods { get; init; }

    /// <summary>QEMU is there but its answer does not fit the command.</summary>
    public bool IsOdd { get; init; }

    /// <summary>
    /// The monitor's owner, libvirt, went away during the command and is back: QEMU lives, and may or may not have run the command.
    /// </summary>
    public bool Interrupted { get; init; }
}
