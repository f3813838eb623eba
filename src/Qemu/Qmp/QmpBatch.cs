namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// Commands that are answered one after the other. Over a socket of our own they are sent in one write: QEMU executes in order what its
/// monitor has received, so that we need not act between two of them.
/// </summary>
public sealed class QmpBatch
{
    private readonly List<Command> _commands = [];
    private int _answered;

    /// <summary>Number of commands that have been added.</summary>
    public int Count => _commands.Count;

    /// <summary>Number of commands that QEMU has answered.</summary>
    public int Answered => _answered;

    /// <summary>Whether every command has its answer.</summary>
    public bool IsDone => _answered == _commands.Count;

    /// <summary>The error of the first command that failed; QEMU still executes those after it.</summary>
    public QmpException? Failure { get; private set; }

    /// <summary>
    /// Adds a command with an id of ours: if we die, its answer goes to the next client, which must not take it for an answer of its own.
    /// </summary>
    public void Add(string command, string arguments = "") =>
        _commands.Add(new Command(command, arguments, QmpClient.Prepare(command, arguments)));

    /// <summary>The first unanswered command, or one further on.</summary>
    internal (string Name, string Arguments) Unanswered(int further = 0) =>
        (_commands[_answered + further].Name, _commands[_answered + further].Arguments);

    /// <summary>All commands as bytes for a socket.</summary>
    internal byte[] Bytes => [.. _commands.SelectMany(c => c.Bytes)];

    private sealed class Command(string name, string arguments, byte[] bytes)
    {
        internal string Name => name;
        internal string Arguments => arguments;
        internal byte[] Bytes => bytes;
    }

    /// <summary>Sends the batch.</summary>
    /// <param name="qmp">The monitor.</param>
    /// <param name="descriptor">A descriptor to send along with the first command, or -1.</param>
    public void Send(IQmpMonitor qmp, int descriptor = -1)
    {
        ArgumentNullException.ThrowIfNull(qmp);
        _answered = 0;
        qmp.Send(this, descriptor);
    }

    /// <summary>Takes the answers that have arrived, without waiting.</summary>
    /// <exception cref="QmpException">QEMU is gone.</exception>
    public void Poll(IQmpMonitor qmp)
    {
        ArgumentNullException.ThrowIfNull(qmp);
        while (!IsDone)
        {
            try
            {
                using QmpAnswer? answer = qmp.TryReadAnswer(this);
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
