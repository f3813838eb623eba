using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Vm;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>A capture from beginning to end: find QEMU, refuse what cannot be true, choose the engine, run it.</summary>
public static class CaptureRun
{
    /// <summary>Takes a snapshot.</summary>
    /// <exception cref="CaptureRefusedException">Nothing was begun.</exception>
    /// <exception cref="CaptureFailedException">It was given up; the guest runs on and nothing is left.</exception>
    /// <exception cref="EngineUnavailableException">The engine asked for does not work here.</exception>
    public static CaptureSummary Take(CaptureOptions options, CaptureProgress progress, CancellationToken cancel)
    {
        Timeline time = new();
        using QmpClient qmp = QmpClient.Connect(options.QmpSocket);
        QemuProcess qemu = QemuProcess.Identify(qmp, options.Pid);
        if (options.Container is { } container && !ContainerProcesses.IsIn(qemu.Pid, container))
            throw new CaptureRefusedException("ForeignProcess", $"the process behind the QMP socket ({qemu.Pid}) does not run in container {container}: it is another VM's");
        DescriptorSweep.Run(qmp, qemu.Pid);
        bool reportsFreePages = Preflight.Check(qmp);
        string reason = options.Engine == CaptureEngine.Auto ? "chosen by auto: this machine allows it" : "asked for";
        if (options.Engine != CaptureEngine.Qemu)
        {
            try
            {
                return AgentEngine.Run(options, reason, qmp, qemu, reportsFreePages, progress, time, cancel);
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
        return QemuEngine.Run(options, reason, qmp, qemu, progress, time, cancel);
    }
}
