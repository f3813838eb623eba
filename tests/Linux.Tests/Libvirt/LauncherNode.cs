using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.NodeAgent.Tasks;
using k8s;
using k8s.Models;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>
/// A node as a task sees it: a machine's real QEMU in the control group of a launcher pod, and a carrier pod whose claim is a folder.
/// </summary>
internal sealed class LauncherNode : IDisposable
{
    private const string Node = "node-1",
        Namespace = "prod",
        Launcher = "virt-launcher-db-x2x4v",
        Carrier = "carrier";
    private readonly LibvirtMachine _machine;
    private readonly ControlGroup _group;

    public LauncherNode(LibvirtMachine machine)
    {
        _machine = machine;
        _group = ControlGroup.Of(machine.Pid, UidOf(Launcher), IdOf(Launcher));
        Claim = Path.Combine(machine.Folder, "carrier", "snapshots");
        Directory.CreateDirectory(Claim);
        // The node's processes: QEMU itself, and a carrier that need not run.
        var carrier = Path.Combine(Processes, "1");
        Directory.CreateDirectory(carrier);
        Directory.CreateSymbolicLink(Path.Combine(carrier, "root"), Path.Combine(machine.Folder, "carrier"));
        File.WriteAllText(Path.Combine(carrier, "cgroup"), $"0::/kubepods/pod{UidOf(Carrier)}/{IdOf(Carrier)}\n");
        Directory.CreateSymbolicLink(Path.Combine(Processes, machine.Pid.ToString(CultureInfo.InvariantCulture)), $"/proc/{machine.Pid}");
        Work = new TaskWork(new TaskResources(new Pods(), Node, Processes), new Scratch(machine.Folder, null), TestFiles.Agent);
    }

    public TaskWork Work { get; }

    /// <summary>The folder that stands for the claim.</summary>
    public string Claim { get; }

    private string Processes => Path.Combine(_machine.Folder, "processes");

    public SnapshotTask Task(string directory, CaptureSpec? how = null) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = directory,
                NamespaceProperty = Namespace,
                Uid = directory,
            },
            Spec = new SnapshotTaskSpec
            {
                NodeName = Node,
                Directory = directory,
                Carrier = new PodTarget
                {
                    PodName = Carrier,
                    PodUID = UidOf(Carrier),
                    Container = Names.CarrierContainer,
                },
                Source = new VirtualMachineTarget
                {
                    PodName = Launcher,
                    PodUID = UidOf(Launcher),
                    Container = "compute",
                    LibvirtDomain = LibvirtMachine.Name,
                    Uuid = _machine.Uuid.ToString(),
                },
                Capture = how,
            },
        };

    public void Dispose() => _group.Dispose();

    private static string UidOf(string pod) => $"{pod}-1111-2222";

    private static string IdOf(string pod) =>
        Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(pod)));

    /// <summary>The API server, with only the requests that look up pods.</summary>
    private sealed class Pods : IApiClient
    {
        public Task<T> Get<T>(ResourceType<T> type, string ns, string name, CancellationToken stop)
            where T : class, IKubernetesObject<V1ObjectMeta> =>
            System.Threading.Tasks.Task.FromResult(
                (T)
                    (object)
                        new PodSummary
                        {
                            Metadata = new V1ObjectMeta
                            {
                                Name = name,
                                NamespaceProperty = ns,
                                Uid = UidOf(name),
                            },
                            Spec = new PodSpecSummary { NodeName = Node },
                            Status = new PodStatusSummary
                            {
                                Phase = "Running",
                                ContainerStatuses =
                                [
                                    new ContainerStatusSummary
                                    {
                                        Name = name == Carrier ? Names.CarrierContainer : "compute",
                                        ContainerID = "containerd://" + IdOf(name),
                                        State = new ContainerStateSummary { Running = new ContainerStateDetail() },
                                    },
                                ],
                            },
                        }
            );

        public Task<ResourceList<T>> List<T>(ResourceType<T> type, string? ns, string? labels, CancellationToken stop)
            where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

        public Task<T> Create<T>(ResourceType<T> type, T item, CancellationToken stop)
            where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

        public Task<T> MergePatch<T>(
            ResourceType<T> type,
            string ns,
            string name,
            string? subresource,
            JsonObject patch,
            CancellationToken stop
        )
            where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

        public Task Delete<T>(ResourceType<T> type, string ns, string name, string? uid, int? graceSeconds, CancellationToken stop)
            where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();

        public Task<TAnswer> Post<TAnswer>(string path, JsonNode body, JsonTypeInfo<TAnswer> answer, CancellationToken stop) =>
            throw new NotSupportedException();

        public IAsyncEnumerable<WatchEvent<T>> Watch<T>(
            ResourceType<T> type,
            string? ns,
            string? labels,
            string resourceVersion,
            TimeSpan longest,
            CancellationToken stop
        )
            where T : class, IKubernetesObject<V1ObjectMeta> => throw new NotSupportedException();
    }
}
