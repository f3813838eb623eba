using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// Stops the guest for as long as we live and want it, over a monitor that takes one command at a time: QEMU itself resumes it whatever becomes of us.
/// </summary>
/// <remarks>
/// <code>
///   getfd (a full pipe)                        the guest runs
///   dump-guest-memory {detach, that pipe} ──▶ vm_stop(), answered at once; QEMU's dump thread blocks in its first write      STOP
///   …                                         the monitor goes on: disks are cut, devices are saved
///   close the read end, or die ─────────────▶ the write fails, the dump with it, vm_start()                                  RESUME
/// </code>
/// Nothing of the guest's memory is ever read. While a dump is under way QEMU refuses <c>cont</c>, so that nobody else resumes the guest, and migrations.
/// Not to be released while QEMU saves its devices: that is to be over before the guest runs.
/// </remarks>
internal sealed class GuestHold : IDisposable
{
    private const string Name = "agent-bgsnap-hold";
    private const int Page = 4096;
    private readonly IQmpMonitor _qmp;
    private readonly Pipe _pipe;

    /// <summary>Prepares the pipe; the guest still runs.</summary>
    internal GuestHold(IQmpMonitor qmp)
    {
        (_qmp, _pipe) = (qmp, Pipe.Create());
        Pipe.Shrink(_pipe.Read);
        using FileStream write = new(_pipe.Write, FileAccess.Write, bufferSize: 0);
        write.Write(new byte[Environment.SystemPageSize]);
        QemuMark.Keep(qmp, Name, (int)_pipe.Write.DangerousGetHandle());
    }

    /// <summary>Adds the command that stops the guest. One page is the least that QEMU dumps.</summary>
    internal static void AddTo(QmpBatch batch) =>
        batch.AddShort("dump-guest-memory", $"{{\"paging\":false,\"protocol\":\"fd:{Name}\",\"detach\":true,\"begin\":0,\"length\":{Page}}}");

    /// <summary>Lets the guest run.</summary>
    internal void Release() => _pipe.Read.Dispose();

    /// <summary>Takes away what an agent that died, or a stop that never came, has left.</summary>
    internal static bool Sweep(IQmpMonitor qmp) => QemuMark.Take(qmp, Name);

    /// <inheritdoc/>
    public void Dispose()
    {
        Release();
        try
        {
            _ = Sweep(_qmp);
        }
        catch (QmpException)
        {
            // QEMU is gone, and the descriptor with it.
        }
    }
}
