using System.Text.Json.Nodes;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Tests.InMemory;
using static Bgsnap.Operator.Tests.KubeVirt.KubeVirtObjects;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>What a snapshot stores of a VM's Kubernetes objects.</summary>
public sealed class MachineObjectsTests
{
    [Fact]
    public async Task The_VM_and_its_instance_type_are_stored_unchanged()
    {
        await using World world = await With(
            """{"instancetype":{"kind":"VirtualMachineInstancetype","name":"small","revisionName":"db-small-1"},"preference":{"name":"linux"},"template":{"spec":{"hostname":"db"}}}""",
            """{"preferenceRef":{"name":"linux","controllerRevisionRef":{"name":"db-linux-2"}}}"""
        );
        foreach (
            (string name, string kind) in new[]
            {
                ("db-small-1", "VirtualMachineInstancetype"),
                ("db-linux-2", "VirtualMachineClusterPreference"),
            }
        )
        {
            RawObject revision = Raw("apps/v1", "ControllerRevision", name, "{}");
            (revision.Spec, revision.Revision, revision.Data) = (
                null,
                1,
                new JsonObject
                {
                    ["kind"] = kind,
                    ["spec"] = new JsonObject { ["cpu"] = new JsonObject { ["guest"] = 2 } },
                }
            );
            await world.Api.Create(KubeVirtKinds.Revisions, revision, default);
        }

        JsonArray items = await Kept(world);

        Assert.Equal(
            ["VirtualMachine db", "VirtualMachineInstance db", "ControllerRevision db-small-1", "ControllerRevision db-linux-2"],
            items.Select(i => $"{i!["kind"]} {i["metadata"]!["name"]}")
        );
        Assert.Equal(
            ("kubevirt.io/v1", "db", "small"),
            (
                (string?)items[0]!["apiVersion"],
                (string?)items[0]!["spec"]!["template"]!["spec"]!["hostname"],
                (string?)items[0]!["spec"]!["instancetype"]!["name"]
            )
        );
        Assert.Equal("4Gi", (string?)items[1]!["spec"]!["domain"]!["memory"]!["guest"]);
        Assert.Equal((2, 1), ((int)items[3]!["data"]!["spec"]!["cpu"]!["guest"]!, (int)items[3]!["revision"]!));
        Assert.All(items, i => Assert.Null(i!["status"]));
        Assert.All(items, i => Assert.Null(i!["metadata"]!["managedFields"]));
        Assert.Equal(world.All(KubeVirtKinds.Machines).Single().Metadata.Uid, (string?)items[0]!["metadata"]!["uid"]);
    }

    [Theory]
    [InlineData("""{"instancetype":{"name":"small"}}""", "virtualmachineclusterinstancetypes", "VirtualMachineClusterInstancetype", null)]
    [InlineData(
        """{"instancetype":{"kind":"virtualmachineinstancetypes","name":"small"}}""",
        "virtualmachineinstancetypes",
        "VirtualMachineInstancetype",
        World.Namespace
    )]
    [InlineData("""{"preference":{"name":"small"}}""", "virtualmachineclusterpreferences", "VirtualMachineClusterPreference", null)]
    [InlineData(
        """{"preference":{"kind":"VirtualMachinePreference","name":"small"}}""",
        "virtualmachinepreferences",
        "VirtualMachinePreference",
        World.Namespace
    )]
    public async Task An_instance_type_without_a_revision_is_stored_itself(string spec, string plural, string kind, string? ns)
    {
        await using World world = await With(spec, "{}");
        var (type, clustered) = KubeVirtKinds.Template(kind)!.Value;
        Assert.Equal((plural, ns is null), (type.Plural, clustered));
        await world.Api.Create(type, Raw("instancetype.kubevirt.io/v1beta1", kind, "small", """{"cpu":{"guest":1}}""", ns: ns), default);

        JsonArray items = await Kept(world);

        Assert.Equal([KubeVirtKinds.Machine, KubeVirtKinds.Instance, kind], items.Select(i => (string?)i!["kind"]));
    }

    [Theory]
    [InlineData("""{"instancetype":{"name":"gone"}}""")]
    [InlineData("""{"instancetype":{"name":"gone","revisionName":"gone"}}""")]
    [InlineData("""{"preference":{"kind":"Secret","name":"gone"}}""")]
    [InlineData("""{"preference":{"inferFromVolume":"root"}}""")]
    public async Task Missing_objects_do_not_prevent_a_capture(string spec)
    {
        await using World world = await With(spec, "{}");
        Assert.Equal(2, (await Kept(world)).Count);
        Assert.DoesNotContain(world.Requests, r => r.Plural == "secrets");
    }

    [Fact]
    public async Task A_description_that_is_too_large_fails_the_snapshot()
    {
        await using World world = await With(
            """{"template":{"spec":{"volumes":[{"name":"init","cloudInitNoCloud":{"userData":"x"}}]}}}""".Replace(
                "\"x\"",
                $"\"{new string('x', 600_000)}\"",
                StringComparison.Ordinal
            ),
            "{}"
        );
        await world.Add(Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Failed);
        Assert.StartsWith(
            "False SourceTooLarge: the description of VirtualMachine db has ",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
    }

    private static async Task<World> With(string spec, string status)
    {
        World world = new();
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        RawObject vm = await AddMachine(world, status, spec);
        await world.Api.MergePatch(
            KubeVirtKinds.Machines,
            World.Namespace,
            Vm,
            null,
            (JsonObject)JsonNode.Parse("""{"metadata":{"managedFields":[{"manager":"kubectl","operation":"Update"}]}}""")!,
            default
        );
        await AddInstance(world, vm);
        await AddLauncher(world, Launcher, TestObjects.Node);
        return world;
    }

    private static async Task<JsonArray> Kept(World world)
    {
        world.Agents.Dead = true;
        await world.Add(Snapshot("a"));
        string text = (await Ordered(world)).Spec.Source!.Objects!;
        JsonNode list = JsonNode.Parse(text)!;
        Assert.Equal(("v1", "List"), ((string?)list["apiVersion"], (string?)list["kind"]));
        return list["items"]!.AsArray();
    }
}
