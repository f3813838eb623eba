using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Snapshots;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;

namespace Bgsnap.Operator.Tests.Snapshots;

public sealed class ClaimTests
{
    [Fact]
    public async Task A_missing_claim_makes_the_snapshot_wait()
    {
        await using World world = new();
        await world.AddPod(TestObjects.VmPod());
        await world.Add(TestObjects.Snapshot("a"));
        await world.Steps(10);
        Assert.Equal(
            "False ClaimNotFound: claim snapshots does not exist in namespace prod: create it, or delete this snapshot",
            world.Condition("a", ConditionTypes.Ready)
        );
        Assert.Equal(SnapshotPhase.Pending, world.Snapshot("a").Status!.Phase);
        Assert.Equal(["Warning ClaimNotFound"], world.Events("a"));
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Fact]
    public async Task A_claim_that_lost_its_volume_fails_the_snapshot()
    {
        await using World world = new();
        await world.AddPod(TestObjects.VmPod());
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim, phase: "Lost"));
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Failed, 3);
        Assert.Equal("False ClaimLost: claim snapshots has lost its volume: name another", world.Condition("a", ConditionTypes.Ready));
    }

    [Fact]
    public async Task A_claim_that_is_being_deleted_fails_the_snapshot()
    {
        await using World world = await TestObjects.WithVm();
        await world.Api.MergePatch(
            CoreResources.Claims,
            World.Namespace,
            TestObjects.Claim,
            null,
            new()
            {
                ["metadata"] = new System.Text.Json.Nodes.JsonObject
                {
                    ["finalizers"] = new System.Text.Json.Nodes.JsonArray("kubernetes.io/pvc-protection"),
                },
            },
            default
        );
        await world.Api.Delete(CoreResources.Claims, World.Namespace, TestObjects.Claim, null, null, default);
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Failed, 3);
        Assert.Equal("False ClaimEnded: claim snapshots is being deleted: name another", world.Condition("a", ConditionTypes.Ready));
    }

    [Fact]
    public async Task A_claim_that_waits_for_its_first_consumer_gets_one()
    {
        await using World world = new();
        await world.AddPod(TestObjects.VmPod());
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim, phase: "Pending"));
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Theory]
    [InlineData("Delete", true)]
    [InlineData("Retain", false)]
    public async Task A_claim_from_a_template_is_deleted_with_the_snapshot_or_stays(string policy, bool owned)
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a", change: s =>
            {
                TestObjects.WithTemplate(s);
                s.DeletionPolicy = policy;
                (s.Target.ClaimTemplate!.StorageClassName, s.Target.ClaimTemplate.AccessModes) = ("fast", ["ReadWriteMany"]);
            }));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        V1PersistentVolumeClaim claim = world.All(CoreResources.Claims).Single(c => c.Metadata.Name == "a");
        Assert.Equal(("fast", "ReadWriteMany"), (claim.Spec.StorageClassName, Assert.Single(claim.Spec.AccessModes)));
        Assert.Equal(owned, claim.Metadata.OwnerReferences is not null);
        Assert.Equal("a", world.Snapshot("a").Status!.ClaimName);
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "the snapshot is gone");
        await world.Steps(2);
        Assert.Equal(!owned, world.All(CoreResources.Claims).Any(c => c.Metadata.Name == "a"));
        Assert.Equal(0, world.TasksEver(TaskAction.Delete)); // the files are deleted or stay with the claim
    }

    [Fact]
    public async Task An_empty_template_gets_the_defaults_and_a_size_from_the_VM()
    {
        await using World world = new();
        await world.AddClaim(TestObjects.ClaimNamed("disk", "5Gi"));
        await world.AddClaim(TestObjects.ClaimNamed("data", "1Gi"));
        await world.AddPod(
            TestObjects.VmPod(change: p =>
                p.Spec.Volumes = [
                    new V1Volume
                    {
                        Name = "a",
                        PersistentVolumeClaim = new V1PersistentVolumeClaimVolumeSource { ClaimName = "disk" },
                    },
                    new V1Volume
                    {
                        Name = "b",
                        PersistentVolumeClaim = new V1PersistentVolumeClaimVolumeSource { ClaimName = "data" },
                    },
                    new V1Volume
                    {
                        Name = "again",
                        PersistentVolumeClaim = new V1PersistentVolumeClaimVolumeSource { ClaimName = "disk" },
                    },
                    new V1Volume
                    {
                        Name = "gone",
                        PersistentVolumeClaim = new V1PersistentVolumeClaimVolumeSource { ClaimName = "gone" },
                    },
                    new V1Volume { Name = "none", EmptyDir = new V1EmptyDirVolumeSource() },
                ]
            )
        );
        await world.Add(TestObjects.Snapshot("a", change: TestObjects.WithTemplate));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        V1PersistentVolumeClaim claim = world.All(CoreResources.Claims).Single(c => c.Metadata.Name == "a");
        Assert.Equal("ReadWriteOnce", Assert.Single(claim.Spec.AccessModes));
        Assert.Null(claim.Spec.StorageClassName);
        // 2 Gi of memory, 5 Gi and 1 Gi of disks, 1 %, 64 Mi, rounded up to a tenth: 8.2 Gi
        Assert.Equal("8397Mi", claim.Spec.Resources.Requests["storage"].ToString());
    }

    [Fact]
    public async Task A_given_size_is_used()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(
            TestObjects.Snapshot("a", change: s => s.Target = new SnapshotTarget { ClaimTemplate = new ClaimTemplate { Size = "3Gi" } })
        );
        await world.UntilPhase("a", SnapshotPhase.Ready);
        Assert.Equal(
            "3Gi",
            world.All(CoreResources.Claims).Single(c => c.Metadata.Name == "a").Spec.Resources.Requests["storage"].ToString()
        );
    }

    [Fact]
    public async Task Without_a_memory_limit_the_size_must_be_given()
    {
        await using World world = new();
        await world.AddPod(TestObjects.VmPod(change: p => p.Spec.Containers[0].Resources = null));
        await world.Add(TestObjects.Snapshot("a", change: TestObjects.WithTemplate));
        await world.UntilPhase("a", SnapshotPhase.Failed, 3);
        Assert.Equal(
            "False SizeUnknown: container qemu of pod db has no memory limit, so the size of the claim is unknown: set "
                + "spec.target.claimTemplate.size",
            world.Condition("a", ConditionTypes.Ready)
        );
    }

    [Fact]
    public async Task A_foreign_claim_with_the_same_name_is_not_touched()
    {
        await using World world = await TestObjects.WithVm();
        await world.AddClaim(TestObjects.ClaimNamed("a"));
        await world.Add(TestObjects.Snapshot("a", change: TestObjects.WithTemplate));
        await world.UntilPhase("a", SnapshotPhase.Failed, 3);
        Assert.StartsWith(
            "False ClaimExists: claim a already exists and does not belong to this snapshot: give the snapshot another name",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "the snapshot is gone");
        Assert.Contains(world.All(CoreResources.Claims), c => c.Metadata.Name == "a");
    }

    [Theory]
    [InlineData("256Mi", null, new string[0], "323Mi")]
    [InlineData("1Gi", null, new string[0], "1127Mi")]
    [InlineData(null, "1Gi", new string[0], "1127Mi")]
    [InlineData("2G", "1G", new string[0], "2048Mi")]
    [InlineData("64Gi", null, new[] { "100Gi", "1536Mi" }, "171316Mi")]
    public void The_size_covers_RAM_and_disks_with_some_room(string? limit, string? request, string[] disks, string size)
    {
        ContainerResources resources = new()
        {
            Limits = limit is null ? null : new() { ["memory"] = limit },
            Requests = request is null ? null : new() { ["memory"] = request },
        };
        PodSummary pod = new()
        {
            Spec = new PodSpecSummary
            {
                Containers = [new ContainerSummary { Name = "other" }, new ContainerSummary { Name = "qemu", Resources = resources }],
            },
        };
        Assert.Equal(size, ClaimBuilder.Size(ClaimBuilder.MemoryOf(pod, "qemu"), disks));
        Assert.True(
            new ResourceQuantity(size).ToDecimal()
                >= new ResourceQuantity(limit ?? request!).ToDecimal() + disks.Sum(d => new ResourceQuantity(d).ToDecimal())
        );
    }
}
