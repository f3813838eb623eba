using System.Text.Json;
using Bgsnap.NodeAgent.GuestAgent;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Vm;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>A capture from beginning to end: find QEMU, refuse what cannot be true, choose the engine, run it.</summary>
internal static class CaptureRun
{
    /// <summary>Takes a snapshot.</summary>
    /// <exception cref="CaptureRefusedException">Nothing was begun.</exception>
    /// <exception cref="CaptureFailedException">It was given up; the guest runs on and nothing is left.</exception>
    /// <exception cref="EngineUnavailableException">The engine asked for does not work here.</exception>
    internal static CaptureSummary Take(CaptureOptions options, CaptureProgress progress, HoldGate hold, CancellationToken cancel)
    {
        Timeline time = new();
        using QmpClient qmp = QmpClient.Connect(options.QmpSocket);
        QemuProcess qemu = QemuProcess.Identify(qmp, options.Pid);
        if (options.Container is { } container && !ContainerProcesses.IsIn(qemu.Pid, container))
            throw new CaptureRefusedException("ForeignProcess", $"the process behind the QMP socket ({qemu.Pid}) does not run in container {container}: it is another VM's");
        if (Leftovers.Sweep(qmp, qemu.Pid, options.GuestAgentSocket).NotThawed is { } frozen)
            throw new CaptureRefusedException("GuestFrozen", $"a capture that died froze the guest's file systems, and they cannot be thawed: {frozen}");
        bool reportsFreePages = Preflight.Check(qmp);
        using Quiesce quiesce = new(options, qmp, cancel);
        quiesce.Prepare(IsRunning(qmp));
        string reason = options.Engine == CaptureEngine.Auto ? "chosen by auto: this machine allows it" : "asked for";
        if (options.Engine != CaptureEngine.Qemu)
        {
            try
            {
                return AgentEngine.Run(options, reason, qmp, qemu, reportsFreePages, quiesce, hold, progress, time, cancel);
            }
            catch (EngineUnavailableException e) when (options.Engine == CaptureEngine.Auto)
            {
                reason = $"chosen by auto: the agent engine is not to be had here: {e.Message}";
            }
            catch (CaptureRefusedException e) when (options.Engine == CaptureEngine.Auto && e.Reason is "KernelTooOld" or "RamBlocksUnknown" or "PageSizeUnsupported")
            {
                reason = $"chosen by auto: the agent engine cannot capture this machine: {e.Message}";
            }
        }
        return QemuEngine.Run(options, reason, qmp, qemu, quiesce, progress, time, cancel);
    }

    private static bool IsRunning(QmpClient qmp)
    {
        using JsonDocument status = qmp.Execute("query-status");
        return status.RootElement.GetProperty("return").GetProperty("running").GetBoolean();
    }
}
