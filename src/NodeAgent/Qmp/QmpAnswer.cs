using System.Text.Json;

namespace Bgsnap.NodeAgent.Qmp;

/// <summary>
/// QEMU's answer to one command. What it is not shaped like is a <see cref="QmpException"/> that names the command and what was missing.
/// </summary>
public sealed class QmpAnswer : IDisposable
{
    private readonly JsonDocument _message;
    private readonly string _command;

    internal QmpAnswer(JsonDocument message, string command) => (_message, _command) = (message, command);

    /// <summary>What the command gave.</summary>
    /// <exception cref="QmpException">The answer has none.</exception>
    public QmpValue Return => new QmpValue(_message.RootElement, _command, "answer").GetProperty("return");

    /// <inheritdoc/>
    public void Dispose() => _message.Dispose();
}
