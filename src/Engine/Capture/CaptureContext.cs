using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.Engine.Capture;

/// <summary>What an engine captures, and who hears of it.</summary>
/// <param name="Options">What was asked for.</param>
/// <param name="Reason">Why this engine captures, for the summary.</param>
/// <param name="Qmp">QEMU's monitor.</param>
/// <param name="Qemu">QEMU's process, which was found to be the right one.</param>
/// <param name="Facts">What the snapshot's truth depends on; established before the preflight.</param>
/// <param name="ReportsFreePages">Whether the balloon reports free pages.</param>
/// <param name="Quiesce">Freezes and thaws the guest's file systems.</param>
/// <param name="Hold">Holds the guest while a storage cuts its disks.</param>
/// <param name="Progress">Where the capture is.</param>
/// <param name="Time">The moments of the capture.</param>
/// <param name="Cancel">Ends the capture; the guest runs on.</param>
internal sealed record CaptureContext(
    CaptureOptions Options,
    string Reason,
    IQmpMonitor Qmp,
    QemuProcess Qemu,
    MachineFacts Facts,
    bool ReportsFreePages,
    Quiesce Quiesce,
    HoldGate Hold,
    CaptureProgress Progress,
    Timeline Time,
    CancellationToken Cancel
);
