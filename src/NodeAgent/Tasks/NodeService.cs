using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.ControllerRuntime.Hosting;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Processes;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>The agent of one node: executes that node's tasks.</summary>
internal sealed class NodeService(IApiClient api, string node, Scratch scratch, Health health, ILoggerFactory logs) : BackgroundService
{
    private const int Workers = 4;

    /// <summary>Runs the agent until the program is asked to end.</summary>
    /// <param name="node">This node's name.</param>
    /// <param name="serving">Its probes, metrics and log.</param>
    /// <param name="scratch">The space that each capture may use on the node's disk.</param>
    /// <param name="stop">Asks it to end.</param>
    internal static async Task<int> Run(string node, Serving serving, Scratch scratch, CancellationToken stop)
    {
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
        HostApplicationBuilder builder = ServingHost.CreateBuilder(serving, api, TimeSpan.FromSeconds(30));
        builder.Services.AddHostedService(s => new NodeService(
            api,
            node,
            scratch,
            s.GetRequiredService<Health>(),
            s.GetRequiredService<ILoggerFactory>()
        ));
        using IHost host = builder.Build();
        await host.RunAsync(stop).ConfigureAwait(false);
        return ExitCode.Success;
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Yield();
        ILogger<NodeService> log = logs.CreateLogger<NodeService>();
        if (OomGroup.End() is { } why)
            log.LogWarning("if the container runs out of memory, the kernel ends all captures of this node together: {Why}", why);
        Informer<SnapshotTask> tasks = new(api, Resources.Tasks, null, $"{Names.NodeLabel}={Names.NodeLabelValue(node)}", log);
        using WorkQueue queue = new();
        // Each run of this agent has another id: a task that is Running under another id died with that run.
        TaskReconciler reconciler = new(
            tasks,
            new TaskWork(new TaskResources(api, node), scratch),
            new TaskReports(api, log),
            node,
            Guid.NewGuid().ToString(),
            logs.CreateLogger<TaskReconciler>()
        );
        tasks.Changed += (key, _, _) => queue.Add(key);
        log.LogInformation("the agent of node {Node} is running", node);
        Task watching = tasks.Run(stoppingToken);
        Task working = new ReconcileLoop("task", queue, reconciler, Workers, log).Run(stoppingToken);
        await Task.WhenAny(tasks.Synced, watching).ConfigureAwait(false);
        health.NotReady = null;
        await Task.WhenAll(watching, working).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        // The guests first: give up every running capture in good order, and report it.
        await reconciler.Drain().ConfigureAwait(false);
    }
}
