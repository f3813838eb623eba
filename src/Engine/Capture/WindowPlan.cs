using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>The commands that one kind of stop window sends, and what holds the guest meanwhile.</summary>
/// <remarks>
/// Which kind fits is known at two moments: when the window is prepared (<see cref="Prepared"/>), and right before it is sent
/// (<see cref="OneWrite"/>, only for a guest that runs).
/// </remarks>
internal sealed class WindowPlan : IDisposable
{
    /// <summary>QEMU stops the guest, saves the state of its devices, and resumes a guest that ran.</summary>
    internal const string SaveCommand = "xen-save-devices-state";
    private const string ConnectionName = "agent-bgsnap-connection";

    private WindowPlan(QmpBatch commands, IGuestStop stop, int stopAt, int saveAt, bool handsOverConnection) =>
        (Commands, Stop, StopAt, SaveAt, HandsOverConnection) = (commands, stop, stopAt, saveAt, handsOverConnection);

    /// <summary>What is sent.</summary>
    internal QmpBatch Commands { get; }

    /// <summary>What stops the guest and resumes it.</summary>
    internal IGuestStop Stop { get; }

    /// <summary>The number of the command that stops the guest.</summary>
    internal int StopAt { get; }

    /// <summary>The number of <see cref="SaveCommand"/>.</summary>
    internal int SaveAt { get; }

    /// <summary>Whether QEMU gets a duplicate of the monitor's connection with the first command.</summary>
    internal bool HandsOverConnection { get; }

    /// <summary>Stops the guest by <paramref name="stop"/>, cuts its disks, saves its devices.</summary>
    /// <param name="stop">What stops the guest and resumes it.</param>
    /// <param name="cut">Adds the commands that cut the disks; null: no disk is cut.</param>
    /// <param name="devicesTo">Where QEMU saves the state of its devices: a path.</param>
    internal static WindowPlan Prepared(IGuestStop stop, Action<QmpBatch>? cut, string devicesTo)
    {
        QmpBatch commands = new();
        stop.AddTo(commands);
        cut?.Invoke(commands);
        int save = commands.Count;
        AddSave(commands, devicesTo);
        return new(commands, stop, 0, save, handsOverConnection: false);
    }

    /// <summary>
    /// All in one write, the guest's <c>cont</c> included: QEMU executes the whole of it even if the agent dies, because it holds a
    /// duplicate of the connection meanwhile.
    /// </summary>
    /// <param name="cut">Adds the commands that cut the disks.</param>
    /// <param name="devicesTo">Where QEMU saves the state of its devices: a path.</param>
    internal static WindowPlan OneWrite(Action<QmpBatch> cut, string devicesTo)
    {
        QmpBatch commands = new();
        // Passed by name and not in a descriptor set: QEMU closes what is removed from a set only while the guest runs
        // (monitor_fdset_cleanup()).
        string connection = QmpJson.Object(("fdname", ConnectionName));
        commands.Add("getfd", connection);
        int stop = commands.Count;
        commands.Add("stop");
        cut(commands);
        int save = commands.Count;
        AddSave(commands, devicesTo);
        commands.Add("cont");
        commands.Add("closefd", connection);
        return new(commands, new SaveStop(), stop, save, handsOverConnection: true);
    }

    private static void AddSave(QmpBatch commands, string devicesTo) =>
        commands.Add(SaveCommand, QmpJson.Object(("filename", devicesTo), ("live", false)));

    /// <summary>Resumes a guest that the window has left stopped without being told to keep it so.</summary>
    public void Dispose() => Stop.Dispose();
}
