using System.Text.Json;

namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// QEMU's answer to one command. If it does not have the expected form, reading it throws a <see cref="QmpException"/> that names the
/// command and what is missing.
/// </summary>
public sealed class QmpAnswer : IDisposable
{
    private readonly JsonDocument _message;
    private readonly string _command;

    internal QmpAnswer(JsonDocument message, string command) => (_message, _command) = (message, command);

    /// <summary>The command's return value.</summary>
    /// <exception cref="QmpException">The answer has no return value.</exception>
    public QmpValue Return => new QmpValue(_message.RootElement, _command, "answer").GetProperty("return");

    /// <inheritdoc/>
    public void Dispose() => _message.Dispose();
}
