using System.Net;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.Hosting;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Cli;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Prometheus;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>How the agent runs in a cluster.</summary>
/// <param name="Node">This node.</param>
/// <param name="Health">Address of the probes.</param>
/// <param name="Metrics">Address of the metrics.</param>
/// <param name="MetricsNeedToken">Whether metrics need a bearer token.</param>
/// <param name="Level">What is logged.</param>
internal sealed record NodeOptions(string Node, IPEndPoint Health, IPEndPoint Metrics, bool MetricsNeedToken, LogLevel Level);

/// <summary>The agent of one node: takes that node's tasks.</summary>
internal sealed class NodeService(IApiClient api, NodeOptions options, Health health, ILoggerFactory logs) : BackgroundService
{
    private const int Workers = 4;

    /// <summary>Runs it until the program is asked to end.</summary>
    internal static async Task<int> Run(NodeOptions options, CancellationToken stop)
    {
        Metrics.SuppressDefaultMetrics(new SuppressDefaultMetricOptions { SuppressEventCounters = true, SuppressMeters = true });
        ApiClient api;
        try
        {
            api = InCluster.Connect();
        }
        catch (Exception e) when (e is InvalidOperationException or IOException)
        {
            await Console.Error.WriteLineAsync($"bgsnap-agent: {e.Message}").ConfigureAwait(false);
            return ExitCode.Failed;
        }
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.SetMinimumLevel(options.Level);
        builder.Logging.AddSimpleConsole(o => (o.SingleLine, o.TimestampFormat) = (true, "HH:mm:ss.fff "));
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(30));
        builder.Services.AddSingleton<Health>();
        builder.Services.AddHostedService(s => new ProbesAndMetrics(
            new EndpointOptions(options.Health, options.Metrics), s.GetRequiredService<Health>(), options.MetricsNeedToken ? new MetricsAccess(api) : null,
            s.GetRequiredService<ILogger<ProbesAndMetrics>>()));
        builder.Services.AddHostedService(s => new NodeService(api, options, s.GetRequiredService<Health>(), s.GetRequiredService<ILoggerFactory>()));
        using IHost host = builder.Build();
        await host.RunAsync(stop).ConfigureAwait(false);
        return ExitCode.Success;
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Yield();
        ILogger<NodeService> log = logs.CreateLogger<NodeService>();
        Informer<SnapshotTask> tasks = new(api, Resources.Tasks, null, $"{Names.NodeLabel}={Names.NodeLabelValue(options.Node)}", log);
        using WorkQueue queue = new();
        // Another run of this agent has another id: what says Running under that one has died with it.
        TaskReconciler reconciler = new(
            tasks, new TaskWork(new TaskPlaces(api, options.Node)), new TaskReports(api, log), options.Node, Guid.NewGuid().ToString(), logs.CreateLogger<TaskReconciler>());
        tasks.Changed += (key, _, _) => queue.Add(key);
        log.LogInformation("the agent of node {Node} is up", options.Node);
        Task watching = tasks.Run(stoppingToken);
        Task working = new ReconcileLoop("task", queue, reconciler, Workers, log).Run(stoppingToken);
        await Task.WhenAny(tasks.Synced, watching).ConfigureAwait(false);
        health.NotReady = null;
        await Task.WhenAll(watching, working).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        // The guests first: every capture under way is given up in good order, and said so.
        await reconciler.Drain().ConfigureAwait(false);
    }
}
