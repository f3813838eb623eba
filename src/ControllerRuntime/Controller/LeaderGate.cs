using k8s;
using k8s.LeaderElection;
using k8s.LeaderElection.ResourceLock;
using Microsoft.Extensions.Logging;

namespace Bgsnap.ControllerRuntime.Controller;

/// <summary>Lets one of several replicas work, chosen by a Lease (coordination.k8s.io/v1).</summary>
/// <remarks>
/// Times as in client-go: when a leader is killed, another replica succeeds it after at most the lease's 15 s and a retry. A leader that
/// can no longer renew ends; work that continues for a moment is harmless, because every write carries the resource version it is based on.
/// </remarks>
public sealed class LeaderGate(IKubernetes kubernetes, string ns, string name, string identity, ILogger log)
{
    /// <summary>Runs the work while this replica leads.</summary>
    /// <returns>True: it led and lost the lease, so the program should end. False: it was stopped.</returns>
    public async Task<bool> Run(Func<CancellationToken, Task> work, CancellationToken stop)
    {
        LeaseLock lease = new(kubernetes, ns, name, identity);
        LeaderElectionConfig config = new(lease)
        {
            LeaseDuration = TimeSpan.FromSeconds(15),
            RenewDeadline = TimeSpan.FromSeconds(10),
            RetryPeriod = TimeSpan.FromSeconds(2),
        };
        using LeaderElector elector = new(config);
        using var leading = CancellationTokenSource.CreateLinkedTokenSource(stop);
        Task? running = null;
        elector.OnStartedLeading += () =>
        {
            log.LogInformation("leading as {Identity}", identity);
            Leader.Set(1);
            running = Task.Run(() => work(leading.Token), CancellationToken.None);
        };
        elector.OnNewLeader += leader => log.LogInformation("the leader is {Leader}", leader);
        try
        {
            await elector.RunUntilLeadershipLostAsync(stop).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // The program ends.
        }
        Leader.Set(0);
        await leading.CancelAsync().ConfigureAwait(false);
        if (running is not null)
            await running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!stop.IsCancellationRequested)
            return true;
        await Release(lease).ConfigureAwait(false);
        return false;
    }

    // When this replica ends in good order, a successor need not wait for the lease to expire.
    private async Task Release(LeaseLock lease)
    {
        try
        {
            using CancellationTokenSource timeout = new(TimeSpan.FromSeconds(3));
            LeaderElectionRecord? record = await lease.GetAsync(timeout.Token).ConfigureAwait(false);
            if (record?.HolderIdentity != identity)
                return;
            record.HolderIdentity = "";
            record.LeaseDurationSeconds = 1;
            await lease.UpdateAsync(record, timeout.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            log.LogInformation("the lease was not given back ({Why}); it runs out by itself", e.Message);
        }
    }

    private static readonly Prometheus.Gauge Leader = Prometheus.Metrics.CreateGauge("bgsnap_leader", "1 while this replica leads.");
}
