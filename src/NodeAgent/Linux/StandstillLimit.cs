namespace Bgsnap.NodeAgent.Linux;

/// <summary>
/// Ends this process when it stands still (SIGSTOP, a debugger, a frozen cgroup) for longer than anybody may want. Its parent does that
/// much sooner; this is for a process whose parent was killed: it would hold QEMU's monitor, which takes one client, and whatever was asked
/// of it, for good.
/// </summary>
internal sealed class StandstillLimit : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20),
        Round = TimeSpan.FromSeconds(1);
    private readonly DeathTimer _death = DeathTimer.Create();
    private readonly Timer _beat;

    /// <summary>Begins.</summary>
    /// <exception cref="LinuxException">The kernel gives no timer.</exception>
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
