namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// A way to a QEMU's monitor: a QMP socket of our own (<see cref="QmpClient"/>), or libvirt, which owns the monitor of its domains
/// (<see cref="Libvirt.LibvirtMonitor"/>).
/// </summary>
/// <remarks>Belongs to one thread.</remarks>
public interface IQmpMonitor : IDisposable
{
    /// <summary>QEMU's version.</summary>
    Version QemuVersion { get; }

    /// <summary>QEMU's process as this connection knows it; 0: it is not visible from here.</summary>
    int PeerPid { get; }

    /// <summary>For poll(2) together with other descriptors: readable when something has arrived. May change after a reconnect.</summary>
    int FileDescriptor { get; }

    /// <summary>Nobody else uses the connection: a batch reaches QEMU in one piece, and QEMU executes all of it even if we die.</summary>
    bool TakesWholeBatches { get; }

    /// <summary>Runs a command and waits for its answer; keeps events that arrive meanwhile.</summary>
    /// <param name="command">Name of the command.</param>
    /// <param name="arguments">JSON object of its arguments, empty for none.</param>
    /// <param name="descriptor">A descriptor to send along (<c>getfd</c>, <c>add-fd</c>), or -1.</param>
    /// <param name="timeout">How long to wait, <see cref="QmpClient.DefaultTimeout"/> when null.</param>
    /// <returns>The answer. The caller disposes of it.</returns>
    /// <exception cref="QmpException">The command failed, or QEMU does not answer.</exception>
    QmpAnswer Execute(string command, string arguments = "", int descriptor = -1, TimeSpan? timeout = null);

    /// <summary>
    /// libvirt's description of the machine in its migratable form, from which another libvirt creates the same machine; null: libvirt does
    /// not own this monitor.
    /// </summary>
    /// <exception cref="QmpException">libvirt refused it or did not answer.</exception>
    string? DomainXml();

    /// <summary>Takes the events that have arrived so far, oldest first.</summary>
    /// <param name="read">False: only events that came with answers; reading here could lose an answer that is on its way.</param>
    IReadOnlyList<QmpEvent> TakeEvents(bool read = true);

    /// <summary>Resumes the guest in a way that the VM's manager notices.</summary>
    void Resume();

    /// <summary>Sends a batch: at once if <see cref="TakesWholeBatches"/>, else each command after the answer to the one before.</summary>
    /// <param name="batch">The commands.</param>
    /// <param name="descriptor">A descriptor to send along with the first command, or -1.</param>
    void Send(QmpBatch batch, int descriptor = -1);

    /// <summary>Takes what has arrived, without waiting.</summary>
    /// <returns>The answer to the batch's first unanswered command; null: it has not arrived.</returns>
    /// <exception cref="QmpException">The command failed, or QEMU is gone.</exception>
    QmpAnswer? TryReadAnswer(QmpBatch batch);
}

/// <summary>Queries that are the same for every monitor.</summary>
public static class QmpMonitorExtensions
{
    /// <summary>Whether the guest is running.</summary>
    public static bool IsRunning(this IQmpMonitor qmp)
    {
        ArgumentNullException.ThrowIfNull(qmp);
        using QmpAnswer status = qmp.Execute("query-status");
        return status.Return.GetProperty("running").GetBoolean();
    }

    /// <summary>Runs a human monitor command.</summary>
    /// <returns>What the monitor printed.</returns>
    public static string ExecuteHuman(this IQmpMonitor qmp, string commandLine)
    {
        ArgumentNullException.ThrowIfNull(qmp);
        using QmpAnswer answer = qmp.Execute("human-monitor-command", QmpJson.Object(("command-line", commandLine)));
        return answer.Return.GetString();
    }
}
