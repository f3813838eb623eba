using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>A guest in ACPI S3 (<c>suspended</c>) that was stopped to save its devices and did not get its state back.</summary>
/// <remarks>
/// From QEMU 8.2 on, vm_stop() stops a suspended guest too, but qmp_xen_save_devices_state() resumes only a guest that ran: this one stays
/// in <c>save-vm</c>, and no wakeup reaches it. <c>cont</c> makes it <c>suspended</c> again: vm_prepare_start() knows that it was. When a
/// monitor answers, nothing else in QEMU has that state, except a dump that is in progress or just ending. QEMU 7.2 does not stop a
/// suspended guest at all.
/// </remarks>
internal static class StrandedGuest
{
    private const string Saving = "save-vm";
    private static readonly TimeSpan DumpEnds = TimeSpan.FromSeconds(1);

    /// <summary>Gives a stranded guest its state back.</summary>
    /// <returns>Whether the guest was stranded.</returns>
    /// <exception cref="QmpException">QEMU does not answer.</exception>
    internal static bool Free(IQmpMonitor qmp)
    {
        for (long end = Environment.TickCount64 + (long)DumpEnds.TotalMilliseconds; StatusOf(qmp) == Saving; Thread.Sleep(20))
        {
            if (Environment.TickCount64 < end)
                continue;
            if (DumpStatusOf(qmp) == "active")
                return false; // the client that owns it resumes it
            qmp.Execute("cont").Dispose();
            return true;
        }
        return false;
    }

    /// <summary>QEMU's run state.</summary>
    internal static string StatusOf(IQmpMonitor qmp) => TextOf(qmp, "query-status");

    private static string DumpStatusOf(IQmpMonitor qmp) => TextOf(qmp, "query-dump");

    private static string TextOf(IQmpMonitor qmp, string question)
    {
        using QmpAnswer answer = qmp.Execute(question);
        return answer.Return.GetProperty("status").GetString();
    }
}
