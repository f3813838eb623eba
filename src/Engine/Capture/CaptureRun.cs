using System.Text.Json;
using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>A capture from beginning to end: finds QEMU, refuses what cannot work, chooses the engine and runs it.</summary>
internal static class CaptureRun
{
    private const int Attempts = 4;

    // Another capture of the VM may be about to end.
    private static readonly TimeSpan ClaimPatience = TimeSpan.FromSeconds(30);

    /// <summary>Takes a snapshot.</summary>
    /// <exception cref="RefusedException">The capture was not started.</exception>
    /// <exception cref="CaptureFailedException">The capture was given up and left nothing behind;
    /// <see cref="CaptureProgress.FinalGuestState"/> says what state the guest is in.</exception>
    /// <exception cref="EngineUnavailableException">The requested engine does not work here.</exception>
    internal static CaptureSummary Take(CaptureOptions options, CaptureProgress progress, HoldGate hold, CancellationToken cancel)
    {
        using IQmpMonitor qmp = options.Monitor.Open();
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                return Take(options, qmp, progress, hold, cancel);
            }
            catch (CaptureFailedException e) when (e.Reason == Reasons.DeviceStateSmall && !options.HoldGuest)
            {
                // Only QEMU's own hold keeps such a guest stopped.
                options = options with { HoldGuest = true };
                progress.BeginAgain();
            }
            catch (Exception e) when (attempt < Attempts && IsDisturbed(e, qmp) && !cancel.IsCancellationRequested)
            {
                // This attempt has discarded everything it made; the next one sweeps up what it could not discard.
                progress.BeginAgain();
            }
            catch (Exception e) when (e is not RefusedException)
            {
                progress.FinalGuestState = FinalGuestState.Ask(qmp);
                throw;
            }
        }
    }

    /// <summary>
    /// Where libvirt owns the monitor, other clients may resume the guest, and libvirt itself may be restarted. Neither is the VM's fault.
    /// </summary>
    private static bool IsDisturbed(Exception e, IQmpMonitor qmp) =>
        !qmp.TakesWholeBatches
        && e
            is QmpException { Interrupted: true }
                or CaptureFailedException { InnerException: QmpException { Interrupted: true } }
                or CaptureFailedException { Reason: Reasons.GuestStateChanged };

    private static CaptureSummary Take(
        CaptureOptions options,
        IQmpMonitor qmp,
        CaptureProgress progress,
        HoldGate hold,
        CancellationToken cancel
    )
    {
        Timeline time = new();
        using QemuProcess qemu = QemuProcess.Identify(qmp, options.Monitor.Pid);
        if (options.Container is { } container && !ContainerProcesses.IsIn(qemu.Held, container))
            throw new RefusedException(
                Reasons.ForeignProcess,
                $"the process behind the QMP socket ({qemu.Pid}) does not run in container {container}: it is another VM's"
            );
        using QemuClaim claim = QemuClaim.Take(qemu.Held, ClaimPatience, Reasons.QemuBusy, cancel);
        TestHooks.After("claimed-qemu");
        if (Leftovers.Sweep(qmp, qemu.Held, options.GuestAgentSocket).NotThawed is { } frozen)
            throw new RefusedException(
                Reasons.GuestFrozen,
                $"a capture that died froze the guest's file systems, and the guest agent does not thaw them: {frozen}"
            );
        // Before the preflight: a device that is plugged in after the preflight then counts as a change.
        MachineFacts facts = new(qmp, qemu.Held);
        facts.Establish(MachineFacts.Since.BeforePreflight);
        // Read after the facts: if a device comes or goes from here on, the capture is discarded.
        qemu.Devices = DeviceTree.Devices(qmp);
        bool reportsFreePages = Preflight.Check(qmp);
        ReadOnlyRam.Refuse(qmp);
        HeldDevices.Refuse(qemu.Held);
        SamepageMerging.Refuse(qemu.Held);
        TestHooks.After("facts");
        using Quiesce quiesce = new(options, qmp, cancel);
        quiesce.Prepare(qmp.IsRunning());
        string reason = options.Engine == CaptureEngine.Auto ? "chosen by auto: this machine allows it" : "asked for";
        if (options.Engine != CaptureEngine.Qemu)
        {
            try
            {
                return AgentEngine.Run(
                    new CaptureContext(options, reason, qmp, qemu, facts, reportsFreePages, quiesce, hold, progress, time, cancel)
                );
            }
            catch (Exception e) when (MemoryChange.Behind(e, qemu.Held, facts.Blocks) is { } change)
            {
                throw change;
            }
            catch (EngineUnavailableException e) when (options.Engine == CaptureEngine.Auto)
            {
                reason = $"chosen by auto: the agent engine does not work here: {e.Message}";
            }
            catch (RefusedException e)
                when (options.Engine == CaptureEngine.Auto
                    && e.Reason is Reasons.KernelTooOld or Reasons.RamBlocksUnknown or Reasons.PageSizeUnsupported
                )
            {
                reason = $"chosen by auto: the agent engine cannot capture this machine: {e.Message}";
            }
        }
        if (!qmp.TakesWholeBatches)
            throw new EngineUnavailableException(
                $"QEMU's own engine needs its own QMP socket: libvirt allows no other client to migrate its domain ({reason})"
            );
        try
        {
            return QemuEngine.Run(options, reason, qmp, qemu, facts, quiesce, progress, time, cancel);
        }
        catch (Exception e) when (options.Engine == CaptureEngine.Auto && WithBothReasons(e, reason) is { } both)
        {
            throw both;
        }
    }

    /// <summary>
    /// If neither engine works, the first engine's reason is usually the one the operator can fix. Returns null if the message already has
    /// it.
    /// </summary>
    internal static Exception? WithBothReasons(Exception e, string reason)
    {
        string said = $"QEMU's own engine: {e.Message}. It was {reason}";
        return e switch
        {
            _ when e.Message.Contains(reason, StringComparison.Ordinal) => null,
            EngineUnavailableException => new EngineUnavailableException(said),
            RefusedException r => new RefusedException(r.Reason, said),
            CaptureFailedException f => new CaptureFailedException(f.Reason, said, f),
            _ => null,
        };
    }
}
