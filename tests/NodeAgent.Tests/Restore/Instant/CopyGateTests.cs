using Bgsnap.Engine.Restore.Instant;

namespace Bgsnap.NodeAgent.Tests.Restore.Instant;

public sealed class CopyGateTests
{
    private const int Copiers = 3,
        Rounds = 20_000;

    /// <summary>Every thread that copies afterwards sees what was recorded while the gate was closed, and none copies meanwhile.</summary>
    [Fact]
    public void Nobody_copies_while_it_is_closed()
    {
        CopyGate gate = new(Copiers);
        int inside = 0,
            bad = 0,
            stop = 0;
        Thread[] threads =
        [
            .. Enumerable
                .Range(0, Copiers)
                .Select(copier => new Thread(() =>
                {
                    while (Volatile.Read(ref stop) == 0)
                    {
                        gate.Enter(copier);
                        Interlocked.Increment(ref inside);
                        Thread.SpinWait(20);
                        Interlocked.Decrement(ref inside);
                        gate.Leave(copier);
                    }
                })),
        ];
        foreach (var t in threads)
            t.Start();

        for (var i = 0; i < Rounds; i++)
        {
            gate.Close();
            if (Volatile.Read(ref inside) != 0)
                bad++;
            gate.Open();
        }

        Volatile.Write(ref stop, 1);
        foreach (var t in threads)
            t.Join();
        Assert.Equal(0, bad);
    }
}
