using System.Text.Json.Nodes;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Tests.InMemory;
using static Bgsnap.Operator.Tests.KubeVirt.MachineRestoreObjects;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>A VirtualMachine that exists when its restore is created.</summary>
internal static class PutBackObjects
{
    /// <summary>Creates a running VM with the target's name, and its claim.</summary>
    /// <param name="world">The world.</param>
    /// <param name="how">Additional fields of its spec.</param>
    internal static async Task<RawObject> Existing(World world, string how = """{"runStrategy":"Always"}""")
    {
        await world.AddClaim(TestObjects.ClaimNamed("db-root"));
        RawObject vm = KubeVirtObjects.Raw("kubevirt.io/v1", KubeVirtKinds.Machine, Name, how);
        vm.Metadata.Labels = new Dictionary<string, string> { ["mine"] = "yes" };
        vm.Spec!["dataVolumeTemplates"] = new JsonArray(new JsonObject { ["metadata"] = new JsonObject { ["name"] = "db-root" } });
        vm.Spec["template"] = JsonNode.Parse(
            """{"spec":{"domain":{"cpu":{"cores":2}},"volumes":[{"name":"root","dataVolume":{"name":"db-root"}}]}}"""
        );
        vm = await world.Api.Create(KubeVirtKinds.Machines, vm, default);
        await world.Until(() => world.All(KubeVirtKinds.RawInstances).Count == 1, "it runs");
        return vm;
    }

    /// <summary>The only instance.</summary>
    internal static RawObject Instance(this World world) => Assert.Single(world.All(KubeVirtKinds.RawInstances));

    /// <summary>Changes the VM as its user would.</summary>
    internal static Task ChangeMachine(this World world, string patch) =>
        world.Api.MergePatch(KubeVirtKinds.Machines, World.Namespace, Name, null, (JsonObject)JsonNode.Parse(patch)!, default);

    /// <summary>Asserts that the VM is as before, with its own claim and no other.</summary>
    internal static void AssertAsBefore(World world, RawObject before, string what = "")
    {
        RawObject after = Assert.Single(world.All(KubeVirtKinds.Machines));
        Assert.True(after.Metadata.Uid == before.Metadata.Uid && JsonNode.DeepEquals(after.Spec, before.Spec), $"{what}: {after.Spec}");
        Assert.Equal(["mine"], after.Metadata.Labels.Keys);
        Assert.Empty(after.Metadata.Annotations ?? new Dictionary<string, string>());
        Assert.Equal(new[] { TestObjects.Claim, "db-root" }.Order(), world.All(CoreResources.Claims).Select(c => c.Metadata.Name).Order());
    }
}
