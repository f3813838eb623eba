using System.Diagnostics;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.GuestAgent;

/// <summary>Thaws a guest, again and again until its agent says that it is thawed.</summary>
internal static class SureThaw
{
    /// <summary>How long it is tried. A guest agent that is alive answers long before.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan OneTry = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    /// <summary>Thaws.</summary>
    /// <param name="address">Where the guest agent is.</param>
    /// <param name="client">A connection to begin with; null: make one. It is disposed of when it fails.</param>
    /// <param name="patience">How long to try.</param>
    /// <returns>How many file systems were frozen until now; 0 when somebody else had thawed them.</returns>
    /// <exception cref="GuestAgentException">Nobody confirmed it in that time.</exception>
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

    /// <summary>Thaws what a capture that died had frozen: nothing is done without our mark in QEMU.</summary>
    /// <param name="qmp">QEMU.</param>
    /// <param name="address">Where the guest agent is.</param>
    /// <returns>True when a freeze of ours was ended.</returns>
    /// <exception cref="GuestAgentException">It could not be; the mark stays for the next one.</exception>
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
