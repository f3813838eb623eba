using System.Text.Json;

namespace Bgsnap.NodeAgent.Qmp;

/// <summary>
/// Commands that are sent in one write and answered one after the other. QEMU works off what its monitor has received in order, so
/// that nothing of ours has to happen between two of them.
/// </summary>
public sealed class QmpBatch
{
    private readonly List<(string Name, byte[] Bytes)> _commands = [];
    private int _answered;

    /// <summary>How many commands have been added.</summary>
    public int Count => _commands.Count;

    /// <summary>Commands that QEMU has answered.</summary>
    public int Answered => _answered;

    /// <summary>Whether every command has its answer.</summary>
    public bool IsDone => _answered == _commands.Count;

    /// <summary>The first command that failed; the ones after it have been run all the same.</summary>
    public QmpException? Failure { get; private set; }

    /// <summary>Adds a command.</summary>
    public void Add(string command, string arguments = "") => _commands.Add((command, QmpClient.Prepare(command, arguments)));

    /// <summary>Adds a command without an id: QEMU's monitor reads byte by byte, and each costs the stopped guest microseconds. Only for commands whose
    /// answer comes while this connection lives.</summary>
    public void AddShort(string command, string arguments = "") => _commands.Add((command, QmpClient.PrepareWithoutId(command, arguments)));

    /// <summary>Sends all of it.</summary>
    /// <param name="qmp">The monitor.</param>
    /// <param name="descriptor">A descriptor that travels with the first command, or -1.</param>
    public void Send(QmpClient qmp, int descriptor = -1)
    {
        ArgumentNullException.ThrowIfNull(qmp);
        _answered = 0;
        qmp.SendPrepared([.. _commands.SelectMany(c => c.Bytes)], descriptor);
    }

    /// <summary>Takes the answers that have arrived, without waiting.</summary>
    /// <exception cref="QmpException">QEMU is gone.</exception>
    public void Poll(QmpClient qmp)
    {
        ArgumentNullException.ThrowIfNull(qmp);
        while (!IsDone)
        {
            try
            {
                using JsonDocument? answer = qmp.TryReadAnswer(_commands[_answered].Name);
                if (answer is null)
                    return;
            }
            catch (QmpException e) when (e.ErrorClass is not null)
            {
                Failure ??= e;
            }
            _answered++;
        }
    }
}
