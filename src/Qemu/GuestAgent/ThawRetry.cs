using System.Diagnostics;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Qemu.GuestAgent;

/// <summary>Thaws a guest, with retries until its agent confirms that it is thawed.</summary>
internal static class ThawRetry
{
    /// <summary>How long to retry. A guest agent that is alive answers long before that.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan OneTry = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    /// <summary>Thaws the guest.</summary>
    /// <param name="address">The guest agent's address.</param>
    /// <param name="client">A connection for the first try; null: open one. It is disposed of when it fails.</param>
    /// <param name="patience">How long to try.</param>
    /// <returns>Number of file systems that were frozen until now; 0: another party had thawed them.</returns>
    /// <exception cref="GuestAgentException">The guest agent did not confirm the thaw in that time.</exception>
    internal static int Run(GuestAgentAddress address, IGuestAgent? client, TimeSpan patience)
    {
        long began = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                client ??= address.Connect(OneTry, CancellationToken.None);
                int thawed = client.Thaw(OneTry);
                client.Dispose();
                return thawed;
            }
            catch (GuestAgentException e)
            {
                client?.Dispose();
                client = null;
                if (Stopwatch.GetElapsedTime(began) > patience)
                    throw new GuestAgentException(
                        $"the guest agent did not confirm within {patience.TotalSeconds:0} s that the guest's file systems are "
                            + $"thawed: {e.Message}. If programs in the guest hang, run guest-fsfreeze-thaw through {address}, or "
                            + "'fsfreeze -u' in the guest",
                        inner: e
                    );
            }
            Thread.Sleep(Pause);
        }
    }

    /// <summary>Thaws what a capture that died had frozen; does nothing without our mark in QEMU.</summary>
    /// <param name="qmp">QEMU.</param>
    /// <param name="address">The guest agent's address.</param>
    /// <returns>True: a freeze of ours was ended.</returns>
    /// <exception cref="GuestAgentException">The guest could not be thawed; the mark stays for the next agent.</exception>
    internal static bool Leftover(IQmpMonitor qmp, GuestAgentAddress address)
    {
        if (!FreezeMark.Take(qmp))
            return false;
        try
        {
            return Run(address, null, Patience) > 0;
        }
        catch (GuestAgentException)
        {
            FreezeMark.Put(qmp);
            throw;
        }
    }
}
