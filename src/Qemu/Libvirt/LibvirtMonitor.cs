using System.Text;
using System.Text.Json;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.Libvirt;

/// <summary>
/// The monitor of a libvirt domain, through libvirt, which owns it: each command is a call of virDomainQemuMonitorCommand, except stop,
/// which is libvirt's own call.
/// </summary>
/// <remarks>
/// libvirt executes the commands of a domain one after the other, and knows nothing of batches. QEMU runs on when libvirt restarts: the
/// agent repeats commands that can be repeated, and the others end in <see cref="QmpException.Interrupted"/>. virDomainResume is not used,
/// because it waits for the end of a migration, while QEMU's cont does not.
/// </remarks>
internal sealed class LibvirtMonitor : IQmpMonitor
{
    /// <summary>The error class of a command in a batch that libvirt itself refused.</summary>
    internal const string Refusal = "libvirt";

    private const uint Suspend = 34,
        GetXmlDesc = 14,
        Migratable = 8,
        MonitorCommand = 1,
        MonitorCommandWithFiles = 7;
    private const int Attempts = 5;
    private static readonly TimeSpan Restart = TimeSpan.FromSeconds(30);

    // Longer than libvirt waits for another job on the domain, so that the agent receives its reason.
    private static readonly TimeSpan Shortest = TimeSpan.FromSeconds(35);

    /// <summary>
    /// Commands that give the same result however often they run; of those that remove something, only the first finds anything.
    /// </summary>
    private static readonly string[] Repeatable = ["query-", "qom-get", "qom-list", "human-monitor-command", "getfd"],
        TakingAway = ["closefd", "remove-fd", "blockdev-del", "block-export-del", "nbd-server-stop"];

    private readonly LibvirtSocket _socket;
    private readonly LibvirtConnection _connection;
    private uint _batchSerial;
    private bool _batchLost;

    private LibvirtMonitor(LibvirtSocket socket, LibvirtConnection connection) => (_socket, _connection) = (socket, connection);

    /// <summary>Connects to a domain's monitor.</summary>
    /// <param name="socket">Where libvirt listens.</param>
    /// <param name="domain">The domain's name or UUID.</param>
    /// <param name="pid">QEMU's process; 0: search for it.</param>
    /// <exception cref="QmpException">libvirt cannot be reached, or has no such domain.</exception>
    /// <exception cref="RefusedException">The process is not that domain's.</exception>
    internal static LibvirtMonitor Open(LibvirtSocket socket, string domain, int pid)
    {
        LibvirtMonitor monitor;
        try
        {
            monitor = new LibvirtMonitor(socket, LibvirtConnection.Open(socket, domain));
        }
        catch (Exception e) when (e is LinuxException or LibvirtException)
        {
            throw new QmpException($"libvirt does not give access to domain {domain}: {e.Message}");
        }
        try
        {
            monitor.PeerPid = LibvirtProcess.Find(monitor, monitor._connection.Domain.Uuid, pid);
            using QmpAnswer answer = monitor.Execute("query-version");
            monitor.QemuVersion = answer.Return.GetProperty("qemu").GetVersion();
            return monitor;
        }
        catch
        {
            monitor.Dispose();
            throw;
        }
    }

    /// <summary>A second connection to the same domain, for another thread.</summary>
    /// <exception cref="LinuxException">No libvirt listens there at the moment.</exception>
    /// <exception cref="LibvirtException">The domain has ended.</exception>
    internal LibvirtConnection ConnectAgain() => LibvirtConnection.Open(_socket, _connection.Domain.Uuid.ToString());

    /// <inheritdoc/>
    public Version QemuVersion { get; private set; } = new();

    /// <inheritdoc/>
    public int PeerPid { get; private set; }

    /// <inheritdoc/>
    public int FileDescriptor => _connection.Rpc.FileDescriptor;

    /// <inheritdoc/>
    public bool TakesWholeBatches => false;

    /// <inheritdoc/>
    public QmpAnswer Execute(string command, string arguments = "", int descriptor = -1, TimeSpan? timeout = null)
    {
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                (uint procedure, XdrWriter call) = Command(command, arguments, descriptor);
                TimeSpan limit = timeout > Shortest ? timeout.Value : Shortest;
                return QmpClient.Checked(Answer(_connection.Rpc.Run(LibvirtRpc.Qemu, procedure, call, descriptor, limit)), command);
            }
            catch (QmpException e) when (attempt > 0 && e.ErrorClass is not null && TakingAway.Contains(command))
            {
                return Done(command);
            }
            catch (LibvirtException e) when (e.Code != 0)
            {
                throw new QmpException($"{command}: libvirt: {e.Message}");
            }
            catch (LibvirtException e)
            {
                if (attempt == Attempts)
                    throw new QmpException($"{command}: {e.Message}");
                Reconnect(e);
                if (!TakingAway.Contains(command) && !Repeatable.Any(r => command.StartsWith(r, StringComparison.Ordinal)))
                    throw Interrupted(command);
            }
        }
    }

    /// <inheritdoc/>
    public string DomainXml()
    {
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                XdrReader reader = new(
                    _connection.Rpc.Run(
                        LibvirtRpc.Remote,
                        GetXmlDesc,
                        _connection.Domain.Write(new XdrWriter()).Number(Migratable),
                        -1,
                        Shortest
                    )
                );
                return reader.Text();
            }
            catch (LibvirtException e) when (e.Code == 0 && attempt < Attempts)
            {
                Reconnect(e);
            }
            catch (LibvirtException e)
            {
                throw new QmpException($"libvirt does not describe domain {_connection.Domain.Name}: {e.Message}");
            }
        }
    }

    /// <inheritdoc/>
    public IReadOnlyList<QmpEvent> TakeEvents(bool read = true)
    {
        try
        {
            if (read)
                _connection.Rpc.Receive();
        }
        catch (LibvirtException e)
        {
            Reconnect(e);
        }
        return _connection.Rpc.Events.TakeAll();
    }

    /// <inheritdoc/>
    public void Resume()
    {
        // A guest that was suspended returns to suspended, not to running.
        for (int attempt = 0; attempt <= Attempts && !this.IsRunning(); attempt++)
        {
            try
            {
                Execute("cont").Dispose();
            }
            catch (QmpException e) when (e.Interrupted && attempt < Attempts)
            {
                // The check of the loop shows whether QEMU received the command.
            }
        }
    }

    /// <inheritdoc/>
    public void Send(QmpBatch batch, int descriptor = -1)
    {
        _batchLost = false;
        Begin(batch);
    }

    /// <inheritdoc/>
    public QmpAnswer? TryReadAnswer(QmpBatch batch)
    {
        string name = batch.Unanswered().Name;
        if (_batchLost)
            throw Interrupted(name);
        byte[] result;
        QmpAnswer? answer = null;
        QmpException? failure = null;
        try
        {
            if (!_connection.Rpc.TryEnd(_batchSerial, out result))
                return null;
            answer = name == "stop" ? Done(name) : QmpClient.Checked(Answer(result), name);
        }
        catch (QmpException e)
        {
            failure = e;
        }
        catch (LibvirtException e) when (e.Code != 0)
        {
            failure = new QmpException($"{name}: libvirt: {e.Message}", Refusal);
        }
        catch (LibvirtException)
        {
            // Do not reconnect yet: the guest may be stopped, and has to be resumed first.
            _batchLost = true;
            throw Interrupted(name);
        }
        TestHooks.After(
            name switch
            {
                "dump-guest-memory" => "suspended",
                "xen-save-devices-state" => "saved",
                _ => "",
            }
        );
        // The commands after one that failed are executed all the same, as over a socket.
        if (batch.Answered + 1 < batch.Count)
            Begin(batch, 1);
        return failure is null ? answer : throw failure;
    }

    private void Begin(QmpBatch batch, int further = 0)
    {
        (string name, string arguments) = batch.Unanswered(further);
        try
        {
            if (name == "stop")
            {
                _batchSerial = _connection.Rpc.Begin(LibvirtRpc.Remote, Suspend, _connection.Domain.Write(new XdrWriter()));
                return;
            }
            (uint procedure, XdrWriter call) = Command(name, arguments, -1);
            _batchSerial = _connection.Rpc.Begin(LibvirtRpc.Qemu, procedure, call);
        }
        catch (LibvirtException)
        {
            _batchLost = true;
        }
    }

    private void Reconnect(LibvirtException because)
    {
        try
        {
            _connection.Reopen(Restart);
        }
        catch (LibvirtException e)
        {
            throw new QmpException($"{because.Message}; {e.Message}");
        }
    }

    private (uint Procedure, XdrWriter Call) Command(string command, string arguments, int descriptor)
    {
        // Without an id: libvirt adds its own.
        string json = Encoding.UTF8.GetString(QmpClient.PrepareWithoutId(command, arguments));
        return (descriptor < 0 ? MonitorCommand : MonitorCommandWithFiles, _connection.Domain.Write(new XdrWriter()).Text(json).Number(0));
    }

    private static JsonDocument Answer(byte[] result)
    {
        XdrReader reader = new(result);
        try
        {
            return QmpMessage.Parse(reader.Bytes().ToArray());
        }
        catch (JsonException)
        {
            throw new QmpException("libvirt returned an answer of QEMU that is not JSON");
        }
    }

    private static QmpAnswer Done(string command) => new(JsonDocument.Parse("{\"return\":{}}"), command);

    private static QmpException Interrupted(string command) =>
        new($"libvirt was restarted while it ran {command}; nothing was kept") { Interrupted = true };

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();
}
