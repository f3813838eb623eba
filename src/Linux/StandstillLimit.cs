namespace Bgsnap.Linux;

/// <summary>
/// Kills this process if it stands still (SIGSTOP, a debugger, a frozen cgroup) for longer than could be wanted. Its parent kills it much
/// sooner; this limit is for a process whose parent was killed. Such a process would hold QEMU's monitor, which takes one client, and
/// whatever it had asked of QEMU, permanently.
/// </summary>
internal sealed class StandstillLimit : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20),
        Round = TimeSpan.FromSeconds(1);
    private readonly DeathTimer _death = DeathTimer.Create();
    private readonly Timer _beat;

    /// <summary>Starts the limit.</summary>
    /// <exception cref="LinuxException">The kernel refused the timer.</exception>
    internal StandstillLimit()
    {
        _death.DieIn(Limit);
        _beat = AgentThread.StartTimer("standstill", () => _death.DieIn(Limit), failed: _ => { }, Round, Round);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        using (ManualResetEvent ended = new(false))
        {
            if (_beat.Dispose(ended))
                _ = ended.WaitOne();
        }
        _death.Dispose();
    }
}
