using System.CommandLine;
using System.Globalization;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.OperatorBenchmark;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;

// Snapshots over simulated nodes on a real API server: does the operator keep up, and how does it grow?
Option<string> kubeconfig = new("--kubeconfig")
{
    Required = true,
    HelpName = "FILE",
    Description = "The cluster; its CRDs must be there, no operator may run",
};
Option<string> program = new("--operator")
{
    Required = true,
    HelpName = "DLL",
    Description = "bgsnap-operator.dll",
};
Option<int[]> sizes = new("--snapshots")
{
    HelpName = "N,…",
    Description = "How many snapshots, one run for each",
    DefaultValueFactory = _ => [100, 300, 1000],
    CustomParser = r => [.. r.Tokens[0].Value.Split(',').Select(t => int.Parse(t, CultureInfo.InvariantCulture))],
};
Option<int> nodes = new("--nodes")
{
    HelpName = "N",
    Description = "Simulated nodes",
    DefaultValueFactory = _ => 100,
};
RootCommand root = new("Measures the operator with simulated nodes.") { kubeconfig, program, sizes, nodes };
root.SetAction(
    async (parsed, stop) =>
    {
        Console.WriteLine(
            "| snapshots | ready | all Ready after, s | creation to task p50, s | p99, s | carrier runs to task p50, s | p99, s | "
                + "operator's writes a snapshot | reads a snapshot | CPU, s | peak memory, MiB |"
        );
        Console.WriteLine("|---|---|---|---|---|---|---|---|---|---|---|");
        bool good = true;
        foreach (int n in parsed.GetValue(sizes)!)
            good &= await Measure(parsed.GetValue(kubeconfig)!, parsed.GetValue(program)!, n, parsed.GetValue(nodes), stop);
        return good ? 0 : 1;
    }
);
return await root.Parse(args).InvokeAsync();

static async Task<bool> Measure(string kubeconfig, string program, int snapshots, int nodes, CancellationToken stop)
{
    TimeSpan captureTime = TimeSpan.FromSeconds(1),
        limit = TimeSpan.FromMinutes(15);
    using var kubernetes = Cluster.Connect(kubeconfig);
    ApiClient api = Cluster.ClientOf(kubernetes);
    string ns = $"bench-{snapshots}";
    using var ending = CancellationTokenSource.CreateLinkedTokenSource(stop);
    SimulatedNodes simulation = new(api, ns, nodes, captureTime, NullLogger.Instance);
    try
    {
        await api.Create(
            SimulatedResources.Namespaces,
            new V1Namespace
            {
                ApiVersion = "v1",
                Kind = "Namespace",
                Metadata = new V1ObjectMeta { Name = ns },
            },
            stop
        );
        await api.Create(
            CoreResources.Claims,
            new V1PersistentVolumeClaim
            {
                ApiVersion = "v1",
                Kind = "PersistentVolumeClaim",
                Metadata = new V1ObjectMeta { Name = "snapshots", NamespaceProperty = ns },
                Spec = new V1PersistentVolumeClaimSpec
                {
                    AccessModes = ["ReadWriteMany"],
                    StorageClassName = "",
                    VolumeName = ns,
                    Resources = new V1VolumeResourceRequirements
                    {
                        Requests = new Dictionary<string, ResourceQuantity> { ["storage"] = new("1Gi") },
                    },
                },
            },
            stop
        );
        await api.Create(
            SimulatedResources.Volumes,
            new V1PersistentVolume
            {
                ApiVersion = "v1",
                Kind = "PersistentVolume",
                Metadata = new V1ObjectMeta { Name = ns },
                Spec = new V1PersistentVolumeSpec
                {
                    AccessModes = ["ReadWriteMany"],
                    Capacity = new Dictionary<string, ResourceQuantity> { ["storage"] = new("1Gi") },
                    HostPath = new V1HostPathVolumeSource { Path = "/nowhere" },
                    StorageClassName = "",
                    ClaimRef = new V1ObjectReference { NamespaceProperty = ns, Name = "snapshots" },
                },
            },
            stop
        );
        await simulation.Create(stop);
        Task playing = simulation.Run(ending.Token);
        await simulation.Schedulable(stop);
        using OperatorProcess process = new(program, kubeconfig);
        await process.Ready(stop);

        Informer<VMBackgroundSnapshot> watch = new(api, Resources.Snapshots, ns, null, NullLogger.Instance);
        Task watching = watch.Run(ending.Token);
        (long reads, long writes) = await process.Requests(stop);
        double cpu = process.CpuSeconds;
        DateTime start = DateTime.UtcNow;
        Dictionary<string, DateTime> created = [];
        for (int i = 0; i < snapshots; i++)
        {
            VMBackgroundSnapshot made = await api.Create(
                Resources.Snapshots,
                new VMBackgroundSnapshot
                {
                    Metadata = new V1ObjectMeta { Name = $"s-{i:0000}", NamespaceProperty = ns },
                    Spec = new SnapshotSpec
                    {
                        Source = new SnapshotSource
                        {
                            Kind = "Pod",
                            ApiGroup = "",
                            Name = $"vm-{i % nodes:000}",
                        },
                        Target = new SnapshotTarget { PersistentVolumeClaim = new ClaimReference { ClaimName = "snapshots" } },
                        DeletionPolicy = "Retain",
                    },
                },
                stop
            );
            created[made.Metadata.Uid] = DateTime.UtcNow;
        }
        int Ready() => watch.Items.Count(s => s.Status?.Phase == SnapshotPhase.Ready);
        while (watch.Items.Count(s => SnapshotPhase.IsTerminal(s.Status?.Phase)) < snapshots && DateTime.UtcNow - start < limit)
            await Task.Delay(200, stop);
        double total = (DateTime.UtcNow - start).TotalSeconds;
        int ready = Ready();
        await Task.Delay(2000, stop);
        (long readsAfter, long writesAfter) = await process.Requests(stop);
        // The second is the operator's alone; in the first is the cluster's own time to bring a pod to a node.
        List<double> toTask = Times(simulation.TaskSeen, created),
            fromCarrier = Times(simulation.TaskSeen, simulation.CarrierRan);
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"| {snapshots} | {ready} | {total:0.0} | {At(toTask, 0.5):0.00} | {At(toTask, 0.99):0.00} | "
                    + $"{At(fromCarrier, 0.5):0.00} | {At(fromCarrier, 0.99):0.00} | {(writesAfter - writes) / (double)snapshots:0.0} | "
                    + $"{(readsAfter - reads) / (double)snapshots:0.0} | {process.CpuSeconds - cpu:0.0} | "
                    + $"{process.PeakMemory / 1048576.0:0} |"
            )
        );
        foreach (VMBackgroundSnapshot s in watch.Items)
            await api.Delete(Resources.Snapshots, ns, s.Metadata.Name, null, null, stop);
        DateTime end = DateTime.UtcNow + TimeSpan.FromMinutes(3);
        while (watch.Items.Any() && DateTime.UtcNow < end)
            await Task.Delay(200, stop);
        bool all = ready == snapshots && toTask.Count == snapshots && !watch.Items.Any();
        await ending.CancelAsync();
        await Task.WhenAll(playing, watching).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return all;
    }
    finally
    {
        await ending.CancelAsync();
        for (int i = 0; i < nodes; i++)
        {
            await Gone(() => api.Delete(Resources.Pods, ns, $"vm-{i:000}", null, 0, default));
            await Gone(() => api.Delete(SimulatedResources.Nodes, null!, SimulatedNodes.NodeName(i), null, 0, default));
        }
        await Gone(() => api.Delete(SimulatedResources.Namespaces, null!, ns, null, null, default));
        await Gone(() => api.Delete(SimulatedResources.Volumes, null!, ns, null, null, default));
    }
}

static List<double> Times(IReadOnlyDictionary<string, DateTime> ends, IReadOnlyDictionary<string, DateTime> begins) =>
    [.. begins.Where(b => ends.ContainsKey(b.Key)).Select(b => (ends[b.Key] - b.Value).TotalSeconds).Order()];

static double At(List<double> sorted, double quantile) =>
    sorted.Count == 0 ? double.NaN : sorted[(int)Math.Min(sorted.Count - 1, quantile * sorted.Count)];

static async Task Gone(Func<Task> delete)
{
    try
    {
        await delete();
    }
    catch (ApiException e) when (e.IsNotFound)
    {
        // It was never made.
    }
}
