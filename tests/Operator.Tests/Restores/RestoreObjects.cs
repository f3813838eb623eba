using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;

namespace Bgsnap.Operator.Tests.Restores;

/// <summary>Objects to start a test of restores with.</summary>
internal static class RestoreObjects
{
    internal const string Vm = "db2";

    /// <summary>A world with a Ready snapshot that has these disks.</summary>
    internal static async Task<World> WithSnapshot(OperatorOptions? options = null, params DiskStatus[] disks)
    {
        World world = await TestObjects.WithVm(options);
        VMBackgroundSnapshot snapshot = TestObjects.Snapshot("s");
        snapshot.Metadata.Finalizers = [Names.Finalizer];
        await world.Add(snapshot);
        await SetStatus(world, s =>
        {
            (s.Phase, s.ClaimName, s.Directory) = (SnapshotPhase.Ready, TestObjects.Claim, "s-directory");
            s.Disks = disks.Length == 0 ? [Disk("vda", "/disks/a/disk.img"), Disk("vdb", "/disks/b/disk.qcow2", "qcow2")] : [.. disks];
        });
        world.Agents.Directories.Add("s-directory");
        await world.Reconcile();
        world.Requests.Clear();
        return world;
    }

    internal static Task SetStatus(World world, Action<SnapshotStatus> change)
    {
        SnapshotStatus status = world.Snapshot("s").Status ?? new SnapshotStatus();
        change(status);
        JsonObject changed = (JsonObject)JsonSerializer.SerializeToNode(status, BgsnapJson.Default.SnapshotStatus)!;
        changed.TryAdd("disks", null);
        return world.Api.MergePatch(Resources.Snapshots, World.Namespace, "s", "status", new JsonObject { ["status"] = changed }, default);
    }

    internal static DiskStatus Disk(string name, string path, string driver = "raw", long size = 1L << 30) =>
        new()
        {
            Name = name,
            Path = path,
            Driver = driver,
            VirtualSize = size,
            StoredBytes = size / 2,
            Method = "CopyBeforeWrite",
        };

    internal static VMBackgroundRestore IntoPod(string name, string pod = Vm) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = World.Namespace },
            Spec = new RestoreSpec
            {
                SnapshotName = "s",
                Target = new RestoreTarget { Pod = new PodReference { Name = pod } },
            },
        };

    /// <summary>A restore into new claims and a new pod; the names end in the restore's name.</summary>
    internal static VMBackgroundRestore IntoTemplate(string name, Action<VirtualMachineTemplate>? change = null)
    {
        VirtualMachineTemplate template = new()
        {
            Claims =
            [
                new RestoreClaim { Disk = "vda", Name = "a-" + name },
                new RestoreClaim
                {
                    Disk = "vdb",
                    Name = "b-" + name,
                    Size = "3Gi",
                    StorageClassName = "fast",
                    AccessModes = ["ReadWriteMany"],
                },
            ],
            Pod = new PodTemplate
            {
                Metadata = new PodTemplateMetadata
                {
                    Name = "vm-" + name,
                    Labels = new Dictionary<string, string> { ["app"] = "db" },
                    Annotations = new Dictionary<string, string> { ["bgsnap.io/qmp-socket"] = "/run/qmp.sock", ["note"] = "kept" },
                },
                Spec = Spec(name),
            },
        };
        change?.Invoke(template);
        return new VMBackgroundRestore
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = World.Namespace },
            Spec = new RestoreSpec
            {
                SnapshotName = "s",
                Target = new RestoreTarget { Template = template },
            },
        };
    }

    internal static JsonObject Spec(string name) =>
        (JsonObject)
            JsonNode.Parse(
                $$$"""
                {
                  "nodeSelector": {"vms": "yes"},
                  "tolerations": [{"key": "vms", "operator": "Exists"}],
                  "containers": [{
                    "name": "qemu", "image": "qemu:1", "args": ["-incoming", "defer"],
                    "resources": {"requests": {"cpu": "1500m"}, "limits": {"memory": "2Gi", "example.org/kvm": "1"}},
                    "volumeMounts": [{"name": "a", "mountPath": "/disks/a"}, {"name": "b", "mountPath": "/disks/b", "subPath": "vm"}]
                  }],
                  "volumes": [
                    {"name": "a", "persistentVolumeClaim": {"claimName": "a-{{{name}}}"}},
                    {"name": "b", "persistentVolumeClaim": {"claimName": "b-{{{name}}}"}},
                    {"name": "run", "emptyDir": {"medium": "Memory"}}
                  ]
                }
                """
            )!;

    internal static int PodsEver(World world, string name) =>
        world.Api.History.Count(c => c.Plural == "pods" && c.Type == "ADDED" && c.Object["metadata"]!["name"]!.GetValue<string>() == name);
}
