using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace Bgsnap.OperatorBenchmark;

/// <summary>
/// Nodes without machines: this plays their kubelets (pods run as soon as they are bound, and end when told) and their agents (a task
/// runs for a moment and succeeds).
/// </summary>
internal sealed class SimulatedNodes(IApiClient api, string ns, int count, TimeSpan captureTime, ILogger log)
{
    private static readonly TimeSpan Beat = TimeSpan.FromSeconds(10);

    /// <summary>When each task was first seen, by the uid of its snapshot.</summary>
    public System.Collections.Concurrent.ConcurrentDictionary<string, DateTime> TaskSeen { get; } = new();

    /// <summary>When each carrier was made to run, by the uid of its snapshot.</summary>
    public System.Collections.Concurrent.ConcurrentDictionary<string, DateTime> CarrierRan { get; } = new();

    public static string NodeName(int i) => $"sim-{i:000}";

    /// <summary>Makes the nodes and one pod with a VM on each.</summary>
    public async Task Create(CancellationToken stop)
    {
        for (int i = 0; i < count; i++)
        {
            await api.Create(
                SimulatedResources.Nodes,
                new V1Node
                {
                    ApiVersion = "v1",
                    Kind = "Node",
                    Metadata = new V1ObjectMeta
                    {
                        Name = NodeName(i),
                        Labels = new Dictionary<string, string> { ["bgsnap.io/simulated"] = "true" },
                    },
                },
                stop
            );
            await BeatOnce(i, stop);
            await CreatePod(
                new V1Pod
                {
                    ApiVersion = "v1",
                    Kind = "Pod",
                    Metadata = new V1ObjectMeta
                    {
                        Name = $"vm-{i:000}",
                        NamespaceProperty = ns,
                        Labels = new Dictionary<string, string> { ["bgsnap.io/simulated"] = "true" },
                        Annotations = new Dictionary<string, string> { [Names.QmpSocketAnnotation] = "/run/qmp.sock" },
                    },
                    Spec = new V1PodSpec { NodeName = NodeName(i), Containers = [new V1Container { Name = "qemu", Image = "none" }] },
                },
                stop
            );
        }
    }

    /// <summary>Waits until the node controller has seen that the nodes are ready, and lets pods onto them.</summary>
    public async Task Schedulable(CancellationToken stop)
    {
        while (
            (await api.List(SimulatedResources.Nodes, null, "bgsnap.io/simulated=true", stop)).Items.Any(n =>
                n.Spec?.Taints is { Count: > 0 }
            )
        )
            await Task.Delay(500, stop);
    }

    // The namespace's service account is made by a controller, a moment after the namespace.
    private async Task CreatePod(V1Pod pod, CancellationToken stop)
    {
        for (int tries = 100; ; tries--)
        {
            try
            {
                await api.Create(CoreResources.Pods, pod, stop);
                return;
            }
            catch (ApiException e)
                when (e.Code is 403 or 500
                    && tries > 0
                    && e.Message.Replace(" ", "", StringComparison.Ordinal).Contains("serviceaccount", StringComparison.Ordinal)
                )
            {
                await Task.Delay(100, stop);
            }
        }
    }

    /// <summary>Plays kubelets and agents until stopped.</summary>
    public Task Run(CancellationToken stop)
    {
        Informer<PodSummary> pods = new(api, Resources.Pods, ns, null, log);
        pods.Changed += (_, _, pod) =>
        {
            if (pod?.Spec?.NodeName is not null)
                _ = Quietly(() => PlayKubelet(pod, stop));
        };
        Informer<SnapshotTask> tasks = new(api, Resources.Tasks, ns, null, log);
        tasks.Changed += (key, before, task) =>
        {
            if (before is null && task is not null)
                _ = Quietly(() => PlayAgent(task, stop));
        };
        return Task.WhenAll(pods.Run(stop), tasks.Run(stop), BeatAll(stop));
    }

    private async Task PlayKubelet(PodSummary pod, CancellationToken stop)
    {
        if (pod.Metadata.DeletionTimestamp is not null)
        {
            await api.Delete(Resources.Pods, ns, pod.Metadata.Name, pod.Metadata.Uid, 0, stop);
            return;
        }
        if (pod.Status?.Phase == "Running")
            return;
        string container = pod.Spec!.Containers![0].Name;
        if (pod.Metadata.Labels?.TryGetValue(Names.SnapshotLabel, out string? of) == true)
            CarrierRan.TryAdd(of, DateTime.UtcNow);
        await api.MergePatch(
            Resources.Pods,
            ns,
            pod.Metadata.Name,
            "status",
            new JsonObject
            {
                ["status"] = new JsonObject
                {
                    ["phase"] = "Running",
                    ["containerStatuses"] = new JsonArray(
                        new JsonObject
                        {
                            ["name"] = container,
                            ["image"] = "none",
                            ["imageID"] = "none",
                            ["ready"] = true,
                            ["restartCount"] = 0,
                            ["containerID"] = $"sim://{pod.Metadata.Uid}",
                            ["state"] = new JsonObject { ["running"] = new JsonObject() },
                        }
                    ),
                },
            },
            stop
        );
    }

    private async Task PlayAgent(SnapshotTask task, CancellationToken stop)
    {
        TaskSeen.TryAdd(task.Metadata.Labels[Names.SnapshotLabel], DateTime.UtcNow);
        await Report(task, new JsonObject { ["phase"] = TaskPhase.Running, ["percent"] = 0 }, stop);
        await Task.Delay(captureTime, stop);
        await Report(
            task,
            new JsonObject
            {
                ["phase"] = TaskPhase.Succeeded,
                ["percent"] = 100,
                ["pointInTime"] = DateTime.UtcNow,
                ["result"] = new JsonObject
                {
                    ["downtimeMicroseconds"] = 800,
                    ["ramBytes"] = 1 << 30,
                    ["storedBytes"] = 1 << 29,
                    ["engine"] = "Agent",
                },
            },
            stop
        );
    }

    private Task<SnapshotTask> Report(SnapshotTask task, JsonObject status, CancellationToken stop) =>
        api.MergePatch(Resources.Tasks, ns, task.Metadata.Name, "status", new JsonObject { ["status"] = status }, stop);

    // Without heartbeats the node controller would taint the nodes after 40 s.
    private async Task BeatAll(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            for (int i = 0; i < count && !stop.IsCancellationRequested; i++)
                await Quietly(() => BeatOnce(i, stop));
            await Task.Delay(Beat, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private Task<V1Node> BeatOnce(int i, CancellationToken stop) =>
        api.MergePatch(
            SimulatedResources.Nodes,
            null!,
            NodeName(i),
            "status",
            new JsonObject
            {
                ["status"] = new JsonObject
                {
                    ["allocatable"] = new JsonObject
                    {
                        ["cpu"] = "64",
                        ["memory"] = "256Gi",
                        ["pods"] = "1000",
                    },
                    ["capacity"] = new JsonObject
                    {
                        ["cpu"] = "64",
                        ["memory"] = "256Gi",
                        ["pods"] = "1000",
                    },
                    ["conditions"] = new JsonArray(
                        new JsonObject
                        {
                            ["type"] = "Ready",
                            ["status"] = "True",
                            ["reason"] = "Simulated",
                            ["message"] = "",
                            ["lastHeartbeatTime"] = DateTime.UtcNow.ToString(
                                "yyyy-MM-dd'T'HH:mm:ss'Z'",
                                System.Globalization.CultureInfo.InvariantCulture
                            ),
                            ["lastTransitionTime"] = "2026-01-01T00:00:00Z",
                        }
                    ),
                },
            },
            stop
        );

    private async Task Quietly(Func<Task> work)
    {
        try
        {
            await work();
        }
        catch (Exception e) when (e is ApiException or HttpRequestException or OperationCanceledException)
        {
            log.LogDebug("simulation: {Why}", e.Message);
        }
    }
}
