using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.ControllerRuntime.Hosting;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Shared;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator;

/// <summary>Runs the shared informers and the controllers while this replica leads.</summary>
internal sealed class LeadingService(
    IApiClient api,
    Lazy<LeaderGate>? gate,
    OperatorOptions options,
    Health health,
    TimeProvider clock,
    IHostApplicationLifetime lifetime,
    ILoggerFactory logs
) : BackgroundService
{
    private static readonly TimeSpan SweepEvery = TimeSpan.FromMinutes(1);
    private readonly ILogger<LeadingService> _log = logs.CreateLogger<LeadingService>();

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Yield();
        // A replica that waits for the lease counts as ready: it can take over.
        health.NotReady = null;
        if (gate is null)
        {
            await Lead(stoppingToken).ConfigureAwait(false);
            return;
        }
        if (await gate.Value.Run(Lead, stoppingToken).ConfigureAwait(false))
        {
            _log.LogError("lost the leader lease: another replica leads now; exiting");
            Environment.ExitCode = 1;
            lifetime.StopApplication();
        }
    }

    private async Task Lead(CancellationToken stop)
    {
        SharedInformers shared = new(api, _log, clock);
        EventRecorder events = new(api, clock, logs.CreateLogger<EventRecorder>());
        using SnapshotController snapshots = new(api, shared, events, options, clock, logs);
        using RestoreController restores = new(api, shared, events, options, clock, logs);
        using ScheduleController schedules = new(api, shared, events, clock, logs);
        Orphans orphans = new(api, shared, logs.CreateLogger<Orphans>());

        Task watching = shared.Run(stop);
        await Task.WhenAny(shared.Synced, watching).ConfigureAwait(false);
        await Task.WhenAll(
                watching,
                snapshots.Run(stop),
                restores.Run(stop),
                schedules.Run(stop),
                Sweep(orphans, [snapshots.Measure, restores.Measure, schedules.Measure], stop)
            )
            .ConfigureAwait(false);
    }

    private async Task Sweep(Orphans orphans, Action[] measures, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await orphans.Sweep(stop).ConfigureAwait(false);
            }
            catch (Exception e) when (e is ApiException or HttpRequestException)
            {
                _log.LogInformation("could not finish the sweep of orphaned tasks and carriers: {Why}", e.Message);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            foreach (Action measure in measures)
                measure();
            await Task.Delay(SweepEvery, clock, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }
}
