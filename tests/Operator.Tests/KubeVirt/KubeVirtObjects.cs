using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>A VirtualMachine as in KubeVirt: with its instance, its launcher pod and its claims.</summary>
internal static class KubeVirtObjects
{
    internal const string Vm = "db",
        Launcher = "virt-launcher-db-x2x4v",
        Uuid = "5d307ca9-b3ef-428c-8861-06e72d69f223";

    internal static VMBackgroundSnapshot Snapshot(string name, string kind = KubeVirtKinds.Machine, Action<SnapshotSpec>? change = null) =>
        TestObjects.Snapshot(name, Vm, s =>
        {
            (s.Source.ApiGroup, s.Source.Kind) = (KubeVirtKinds.Group, kind);
            change?.Invoke(s);
        });

    /// <summary>A world with a VM that runs on a node, and the claim for snapshots.</summary>
    internal static async Task<World> WithVm(bool owned = true)
    {
        World world = new();
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        RawObject vm = await AddMachine(world, """{"printableStatus":"Running"}""");
        await AddInstance(world, owned ? vm : null);
        await AddLauncher(world, Launcher, TestObjects.Node);
        return world;
    }

    internal static Task<RawObject> AddMachine(
        World world,
        string status,
        string spec = """{"runStrategy":"Always","template":{"spec":{"domain":{}}}}"""
    ) => world.Api.Create(KubeVirtKinds.Machines, Raw("kubevirt.io/v1", KubeVirtKinds.Machine, Vm, spec, status), default);

    internal static async Task AddInstance(World world, RawObject? owner)
    {
        RawObject vmi = Raw(
            "kubevirt.io/v1",
            KubeVirtKinds.Instance,
            Vm,
            $$$"""
            {"domain":{"firmware":{"uuid":"{{{Uuid}}}"},"memory":{"guest":"4Gi"},"devices":{"disks":[{"name":"root","disk":{"bus":"virtio"}},{"name":"shared","shareable":false}],"interfaces":[{"name":"default","masquerade":{}}]}},
             "volumes":[{"name":"root","dataVolume":{"name":"db-root"}},{"name":"hot","persistentVolumeClaim":{"claimName":"db-hot","hotpluggable":true}},{"name":"base","containerDisk":{"image":"cirros"}}]}
            """,
            """{"phase":"Running"}"""
        );
        if (owner is not null)
            vmi.Metadata.OwnerReferences =
            [
                new V1OwnerReference
                {
                    ApiVersion = "kubevirt.io/v1",
                    Kind = KubeVirtKinds.Machine,
                    Name = Vm,
                    Uid = owner.Metadata.Uid,
                    Controller = true,
                },
            ];
        await world.Api.Create(KubeVirtKinds.RawInstances, vmi, default);
    }

    /// <summary>Adds a launcher pod of the instance, which runs in it from now on.</summary>
    internal static async Task AddLauncher(World world, string name, string node)
    {
        V1Pod pod = FakeKubeVirt.Launcher(world.All(KubeVirtKinds.RawInstances).Single(), name, node);
        pod.Spec.Containers[0].Resources = null;
        await world.AddPod(pod);
        await ChangeInstance(
            world,
            $$$"""{"status":{"nodeName":"{{{node}}}","activePods":{"{{{world.Pod(name)!.Metadata.Uid}}}":"{{{node}}}"} } }"""
        );
    }

    /// <summary>KubeVirt, or a user, changes the instance.</summary>
    internal static Task ChangeInstance(World world, string patch) =>
        world.Api.MergePatch(KubeVirtKinds.RawInstances, World.Namespace, Vm, null, (JsonObject)JsonNode.Parse(patch)!, default);

    /// <summary>The only task for an agent; no agent ever carries it out.</summary>
    internal static async Task<SnapshotTask> Ordered(World world)
    {
        await world.Until(() => world.All(Resources.Tasks).Count == 1, "an agent has been told");
        return world.All(Resources.Tasks).Single();
    }

    internal static RawObject Raw(
        string version,
        string kind,
        string name,
        string spec,
        string? status = null,
        string? ns = World.Namespace
    ) =>
        new()
        {
            ApiVersion = version,
            Kind = kind,
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = ns },
            Spec = (JsonObject)JsonNode.Parse(spec)!,
            Status = status is null ? null : (JsonObject)JsonNode.Parse(status)!,
        };
}
