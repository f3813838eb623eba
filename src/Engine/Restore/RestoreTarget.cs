using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore;

/// <summary>The QEMU that waits for a snapshot.</summary>
internal sealed class RestoreTarget : IDisposable
{
    /// <summary>How long a QEMU whose monitor has closed may take to end.</summary>
    internal static readonly TimeSpan EndPatience = TimeSpan.FromSeconds(1);

    private List<RamBlockLine> _blocks = [];

    private RestoreTarget(IQmpMonitor qmp, QemuProcess process) => (Qmp, Process) = (qmp, process);

    /// <summary>Its monitor.</summary>
    internal IQmpMonitor Qmp { get; }

    /// <summary>Its process.</summary>
    internal QemuProcess Process { get; }

    /// <summary>Connects, and refuses a QEMU that does not wait for a snapshot.</summary>
    /// <param name="monitor">The way to it.</param>
    /// <param name="container">The container that it must run in; null: anywhere.</param>
    /// <param name="mustWait">False: the guest may run already.</param>
    internal static RestoreTarget Connect(TargetMonitor monitor, string? container, bool mustWait = true)
    {
        IQmpMonitor qmp = monitor.Open();
        QemuProcess? process = null;
        try
        {
            process = QemuProcess.Identify(qmp);
            RestoreTarget target = new(qmp, process);
            if (container is not null && !ContainerProcesses.IsIn(process.Held, container))
                throw new RestoreRefusedException(
                    Reasons.ForeignProcess,
                    $"the process behind the monitor ({target.Process.Pid}) does not run in container {container}: it is another VM's"
                );
            if (mustWait)
                target.MustWait();
            return target;
        }
        catch
        {
            process?.Dispose();
            qmp.Dispose();
            throw;
        }
    }

    /// <summary>Its RAM blocks, read again on each call.</summary>
    /// <exception cref="RefusedException">A block cannot be located.</exception>
    internal IReadOnlyList<RamBlock> RamBlocks() => RamBlockTable.Read(Qmp, Process.Held, ref _blocks);

    /// <summary>Whether a guest in this state has loaded its snapshot.</summary>
    internal static bool HasAll(string state) => state is "running" or "paused" or "suspended";

    /// <summary>State of the guest in query-status's words.</summary>
    /// <param name="patience">How long QEMU may take to answer; null: as long as for any command.</param>
    internal string RunState(TimeSpan? patience = null)
    {
        using QmpAnswer answer = Qmp.Execute("query-status", timeout: patience);
        return answer.Return.GetProperty("status").GetString();
    }

    /// <summary>
    /// The state of a guest that has all its RAM and no longer needs the agent: <c>ended</c> if it was migrated away or shut down
    /// meanwhile, <c>unknown</c> if QEMU does not answer.
    /// </summary>
    internal string StateAfterwards()
    {
        try
        {
            return RunState();
        }
        catch (QmpException)
        {
            return HasEnded(Process.Held, EndPatience) ? "ended" : "unknown";
        }
    }

    /// <summary>Whether a process has ended, or ends within a moment.</summary>
    /// <param name="process">The process.</param>
    /// <param name="moment">How long that is.</param>
    internal static bool HasEnded(CheckedProcess process, TimeSpan moment)
    {
        for (long end = Environment.TickCount64 + (long)moment.TotalMilliseconds; ; Thread.Sleep(50))
        {
            if (process.Descriptor.HasEnded())
                return true;
            if (Environment.TickCount64 >= end)
                return false;
        }
    }

    /// <summary>State of the incoming migration, and why it failed; null: no migration has begun.</summary>
    internal (string? Status, string? Error) Incoming()
    {
        using QmpAnswer answer = Qmp.Execute("query-migrate");
        QmpValue info = answer.Return;
        return (Text(info, "status"), Text(info, "error-desc"));
    }

    /// <summary>
    /// Checks again after something that took long, so that nothing is written into a QEMU that somebody else has started.
    /// </summary>
    /// <exception cref="RestoreFailedException">QEMU no longer waits.</exception>
    internal void MustStillWait()
    {
        try
        {
            MustWait();
        }
        catch (RestoreRefusedException e)
        {
            throw new RestoreFailedException(e.Reason, $"somebody else used the target during the restore: {e.Message}", e);
        }
    }

    private void MustWait()
    {
        string state = RunState();
        if (state != "inmigrate")
            throw new RestoreRefusedException(
                Reasons.TargetNotWaiting,
                $"the target's state is '{state}': start QEMU with -incoming defer (and the same machine and devices)"
            );
        // QEMU does not report what it expects until the migration arrives; its command line does.
        if (IncomingArgument(Process.Arguments) is { } from && from != "defer")
            throw new RestoreRefusedException(
                Reasons.TargetNotWaiting,
                $"this QEMU expects a migration from elsewhere (-incoming {from}): start it with -incoming defer"
            );
        if (Incoming().Status is { } status && status != "none")
            throw new RestoreRefusedException(
                Reasons.TargetNotWaiting,
                status == "failed"
                    ? "an earlier restore into this QEMU failed, and left part of its memory there: restart QEMU"
                    : $"a migration into this QEMU has begun already ({status}): restart QEMU, with -incoming defer"
            );
    }

    /// <summary>The argument of <c>-incoming</c>; null: not given.</summary>
    internal static string? IncomingArgument(IReadOnlyList<string> arguments)
    {
        for (int i = arguments.Count - 2; i >= 0; i--)
            if (arguments[i] is "-incoming" or "--incoming")
                return arguments[i + 1];
        return null;
    }

    private static string? Text(QmpValue element, string name) =>
        element.TryGetProperty(name, out QmpValue value) ? value.GetString() : null;

    /// <inheritdoc/>
    public void Dispose()
    {
        Process.Dispose();
        Qmp.Dispose();
    }
}
