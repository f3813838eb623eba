using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Keeps the guest stopped while the agent lives and wants it, then gives it back the state that it had: QEMU itself remembers whether it
/// ran.
/// </summary>
/// <remarks>
/// <code>
///   getfd (a full pipe)                        the guest runs, or does not
///   dump-guest-memory {detach, that pipe} ──▶ vm_stop() if it runs; QEMU's dump thread blocks in its first write      STOP
///   …                                         the monitor keeps working: disks are cut, devices are saved
///   close the read end, or die ─────────────▶ the write fails, the dump with it, vm_start() if it ran                 RESUME
/// </code>
/// QEMU never reads the guest's memory for this. While a dump is in progress QEMU refuses <c>stop</c>, <c>cont</c> and migrations from
/// every client: the state that QEMU found stays until the end, even if the user had paused the guest, and no <c>cont</c> of ours can undo
/// what a user asked for. Do not release the hold while QEMU saves its devices: the save must end before the guest runs.
/// </remarks>
internal sealed class GuestHold : IGuestStop
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

    /// <inheritdoc/>
    public bool Lasts => false;

    /// <inheritdoc/>
    public bool Holds => true;

    /// <inheritdoc/>
    public void Arm() { }

    /// <summary>Adds the command that stops the guest. One page is the smallest range that QEMU dumps.</summary>
    public void AddTo(QmpBatch batch) =>
        batch.Add("dump-guest-memory", $"{{\"paging\":false,\"protocol\":\"fd:{Name}\",\"detach\":true,\"begin\":0,\"length\":{Page}}}");

    /// <inheritdoc/>
    public void Release() => _pipe.Read.Dispose();

    /// <inheritdoc/>
    public void Settled(bool ran) { }

    /// <inheritdoc/>
    public void GiveUp(bool ran) => Release();

    /// <inheritdoc/>
    public void Keep() { }

    /// <summary>Removes what an agent that died, or a stop that never came, has left behind.</summary>
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
