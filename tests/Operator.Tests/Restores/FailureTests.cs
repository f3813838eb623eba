using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using static Bgsnap.Operator.Tests.Restores.RestoreObjects;

namespace Bgsnap.Operator.Tests.Restores;

/// <summary>What a restore refuses, what it waits for, and what happens to a failed one.</summary>
public sealed class FailureTests
{
    private static void Set(VirtualMachineTemplate t, string json, bool container = false)
    {
        JsonObject spec = container ? (JsonObject)t.Pod.Spec["containers"]![0]! : t.Pod.Spec;
        foreach ((string name, JsonNode? value) in (JsonObject)JsonNode.Parse(json)!)
            spec[name] = value?.DeepClone();
    }

    /// <summary>The request, the reason, and a part of the message.</summary>
    public static TheoryData<string, bool, string, string> RefusedPods =>
        new()
        {
            {
                """{"hostNetwork":true}""",
                false,
                "TemplateRefused",
                "spec.hostNetwork is set: remove it, or start the pod yourself and name it in spec.target.pod"
            },
            { """{"hostPID":true}""", false, "TemplateRefused", "spec.hostPID is set" },
            { """{"hostIPC":true}""", false, "TemplateRefused", "spec.hostIPC is set" },
            { """{"nodeName":"node-1"}""", false, "TemplateRefused", "spec.nodeName is set" },
            { """{"volumes":[{"name":"root","hostPath":{"path":"/"}}]}""", false, "TemplateRefused", "volume root is a hostPath" },
            { """{"securityContext":{"sysctls":[{"name":"kernel.msgmax","value":"1"}]}}""", false, "TemplateRefused", "sysctls" },
            { """{"securityContext":{"seccompProfile":{"type":"Unconfined"}}}""", false, "TemplateRefused", "Unconfined" },
            {
                """{"initContainers":[{"name":"i","image":"i","securityContext":{"privileged":true}}]}""",
                false,
                "TemplateRefused",
                "container i is privileged"
            },
            { """{"securityContext":{"privileged":true}}""", true, "TemplateRefused", "container qemu is privileged" },
            {
                """{"securityContext":{"capabilities":{"add":["SYS_ADMIN"]}}}""",
                true,
                "TemplateRefused",
                "container qemu adds capability SYS_ADMIN"
            },
            { """{"securityContext":{"procMount":"Unmasked"}}""", true, "TemplateRefused", "procMount Unmasked" },
            { """{"ports":[{"containerPort":80,"hostPort":80}]}""", true, "TemplateRefused", "hostPort" },
            { """{"ephemeralContainers":[{"name":"e","image":"i"}]}""", false, "TemplateRefused", "ephemeralContainers" },
            { """{"containers":[]}""", false, "TemplateInvalid", "spec.containers is empty" },
            { """{"containers":5}""", false, "TemplateInvalid", "spec.containers has the wrong type" },
            {
                """{"hostnetwork":true}""",
                false,
                "TemplateInvalid",
                "spec.hostnetwork is not a pod field that this version of bgsnap knows"
            },
            { """{"privilege":true}""", true, "TemplateInvalid", "spec.containers[0].privilege is not a pod field" },
            {
                """{"containers":[{"name":"a","image":"i"},{"name":"b","image":"i"}]}""",
                false,
                "TemplateInvalid",
                "the pod has 2 containers: name the one with QEMU in annotation bgsnap.io/container"
            },
        };

    [Theory]
    [MemberData(nameof(RefusedPods))]
    public async Task A_pod_with_privileges_that_a_restore_may_not_grant_is_not_created(
        string asked,
        bool container,
        string reason,
        string part
    )
    {
        await using World world = await WithSnapshot();
        await world.Add(IntoTemplate("r", t => Set(t, asked, container)));
        await AssertFails(world, reason, part);
        Assert.Equal(0, PodsEver(world, "vm-r"));
        Assert.DoesNotContain(world.Requests, r => r.Verb == "create" && r.Plural is "persistentvolumeclaims" or "snapshottasks");
    }

    [Theory]
    [InlineData("no claim for vdb", "DiskWithoutClaim", "disk vdb of snapshot s has no claim: add one to spec.target.template.claims")]
    [InlineData("a claim for cd0", "NoSuchDisk", "snapshot s has no disk cd0 (it was not captured: read-only); it has vda, vdb")]
    [InlineData("too small", "ClaimTooSmall", "claim b-r (1023Mi) is too small for disk vdb (1Gi, 1073741824 bytes): raise its size")]
    [InlineData("not in the pod", "ClaimNotInPod", "the template's pod has no volume with claim other of disk vda: add one")]
    [InlineData(
        "elsewhere",
        "PathNotOnClaim",
        "container qemu of the template does not mount claim a-r at /disks/c/disk.img, the path of disk vda"
    )]
    [InlineData("upwards", "PathUnknown", "disk vda: '/disks/a/../x' is not an absolute path")]
    [InlineData("over the snapshots", "PathTaken", "claim a-r is mounted at /snapshots, which conflicts with /snapshots")]
    [InlineData("over everything", "PathTaken", "claim a-r is mounted at /, which conflicts with /snapshots")]
    [InlineData("an unknown path", "PathUnknown", "the snapshot does not record the path of disk vda")]
    [InlineData("another format", "DriverUnknown", "disk vda has format vmdk")]
    public async Task A_template_that_does_not_fit_is_refused_before_anything_is_created(string what, string reason, string part)
    {
        await using World world = await WithSnapshot();
        List<DiskStatus> disks = world.Snapshot("s").Status!.Disks!;
        disks.Add(
            new DiskStatus
            {
                Name = "cd0",
                Note = "read-only",
                StoredBytes = 0,
                Method = "None",
                Driver = "raw",
            }
        );
        if (what == "an unknown path")
            disks[0].Path = null;
        if (what == "another format")
            disks[0].Driver = "vmdk";
        await SetStatus(world, s => s.Disks = disks);
        await world.Add(IntoTemplate("r", t =>
            {
                JsonNode mount = t.Pod.Spec["containers"]![0]!["volumeMounts"]![0]!;
                List<RestoreClaim> claims = t.Claims!;
                switch (what)
                {
                    case "no claim for vdb":
                        claims.RemoveAt(1);
                        break;
                    case "a claim for cd0":
                        claims.Add(new RestoreClaim { Disk = "cd0", Name = "c-r" });
                        break;
                    case "too small":
                        claims[1].Size = "1023Mi";
                        break;
                    case "not in the pod":
                        claims[0].Name = "other";
                        break;
                    case "elsewhere":
                        claims[0].Path = "/disks/c/disk.img";
                        break;
                    case "upwards":
                        claims[0].Path = "/disks/a/../x";
                        break;
                    case "over the snapshots":
                        (mount["mountPath"], claims[0].Path) = ("/snapshots", "/snapshots/disk.img");
                        break;
                    case "over everything":
                        mount["mountPath"] = "/";
                        break;
                }
            }));
        await AssertFails(world, reason, part);
        Assert.DoesNotContain(world.Requests, r => r.Verb == "create" && r.Plural is "persistentvolumeclaims" or "pods" or "snapshottasks");
    }

    [Fact]
    public async Task A_foreign_claim_is_neither_overwritten_nor_removed()
    {
        await using World world = await WithSnapshot();
        await world.AddClaim(TestObjects.ClaimNamed("b-r"));
        await world.Add(IntoTemplate("r"));
        await AssertFails(world, "ClaimExists", "claim b-r already exists and does not belong to this restore, which would overwrite it");
        Assert.NotNull(world.Claim("b-r"));
        Assert.Null(world.Claim("a-r"));
        Assert.Empty(world.Agents.Written);
    }

    [Fact]
    public async Task A_foreign_pod_is_neither_used_nor_removed()
    {
        await using World world = await WithSnapshot();
        await world.AddPod(TestObjects.VmPod("vm-r"));
        await world.Add(IntoTemplate("r"));
        await AssertFails(world, "PodExists", "pod vm-r already exists and does not belong to this restore");
        Assert.NotNull(world.Pod("vm-r"));
    }

    [Fact]
    public async Task Labels_of_ours_in_a_template_do_not_make_the_VM_a_helper()
    {
        await using World world = await WithSnapshot();
        await world.Add(IntoTemplate("r", t => t.Pod.Metadata.Labels = new Dictionary<string, string>
                {
                    [Names.ManagedByLabel] = Names.ManagedBy,
                    [Names.SnapshotLabel] = "other",
                    [Names.RestoreLabel] = "other",
                    ["app"] = "db",
                }));
        await world.UntilRestore("r", RestorePhase.Ready);
        await world.Operator.Settle();
        Assert.Equal(0, await world.Operator.Orphans.Sweep(default));
        Assert.Equal(["app", Names.RestoreLabel], world.Pod("vm-r")!.Metadata.Labels.Keys.Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("Failed", "SnapshotFailed", "snapshot s has failed")]
    [InlineData("deleted", "SnapshotDeleted", "snapshot s is being deleted: name another")]
    public async Task A_failed_or_deleted_snapshot_is_refused(string what, string reason, string part)
    {
        await using World world = await WithSnapshot();
        if (what == "Failed")
            await SetStatus(world, s => s.Phase = SnapshotPhase.Failed);
        world.Agents.Dead = true; // the deletion continues
        if (what == "deleted")
            await world.Delete("s");
        await world.Step();
        await world.Add(IntoTemplate("r"));
        await AssertFails(world, reason, part);
    }

    [Fact]
    public async Task Disks_that_cannot_be_written_fail_the_restore_and_nothing_stays()
    {
        await using World world = await WithSnapshot();
        world.Agents.DisksFail = ("DiskFull", "claim a-r is full at 512Mi of disk vda: give it a larger size, then create another restore");
        await world.Add(IntoTemplate("r"));
        await AssertFails(world, "DiskFull", "claim a-r is full");
        Assert.Equal(0, PodsEver(world, "vm-r"));
        Assert.Equal("Warning RestoreFailed", world.Events("r").Last());
    }

    [Fact]
    public async Task A_users_pod_is_left_alone_when_a_restore_into_it_fails()
    {
        await using World world = await WithSnapshot();
        await world.AddPod(TestObjects.VmPod(Vm));
        world.Agents.RestoreFails = ("MachineMismatch", "the snapshot is of pc-i440fx-7.2 and pod db2 runs pc-q35-7.2");
        await world.Add(IntoPod("r"));
        await AssertFails(world, "MachineMismatch", "pc-q35-7.2");
        Assert.Null(world.Pod(Vm)!.Metadata.DeletionTimestamp);
    }

    [Theory]
    [InlineData("writer", "CarrierUnschedulable", "mounts claim snapshots, a-r, b-r, cannot be scheduled: no node")]
    [InlineData("vm", "PodUnschedulable", "pod vm-r cannot be scheduled: no node")]
    [InlineData("vm image", "PodNotStarting", "pod vm-r does not start: ErrImagePull: qemu:1 not found")]
    public async Task A_pod_that_cannot_start_says_why_frees_its_slot_and_fails_at_the_deadline(string what, string reason, string part)
    {
        await using World world = await WithSnapshot();
        if (what == "writer")
            world.Node.Unschedulable = "no node";
        if (what == "vm")
            world.Node.VmUnschedulable = "no node";
        if (what == "vm image")
            world.Node.VmStuck = ("ErrImagePull", "qemu:1 not found");
        VMBackgroundRestore r = IntoTemplate("r");
        r.Spec.Deadline = "2m";
        await world.Add(r);
        await world.Until(() => world.RestoreCondition("r").Contains(part, StringComparison.Ordinal), part, 60);
        Assert.StartsWith($"False {reason}: ", world.RestoreCondition("r"), StringComparison.Ordinal);
        Assert.Equal(
            (0, 0),
            (
                world.Operator.RestoreQueue.Enter(FakeNode.AnyNode, new("prod", "x"), DateTime.UtcNow),
                world.Operator.RestoreQueue.Enter(FakeNode.AnyNode, new("prod", "y"), DateTime.UtcNow)
            )
        );
        await AssertFails(world, "DeadlineExceeded", "the guest did not run within 00:02:00 of the restore's creation; last status: ");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Not_ended_by_its_deadline_it_is_cancelled_whether_the_agent_answers_or_not(bool dead)
    {
        await using World world = await WithSnapshot();
        world.Agents.Slow = true;
        VMBackgroundRestore r = IntoTemplate("r");
        r.Spec.Deadline = "30s";
        await world.Add(r);
        await world.Until(() => world.Restore("r").Status?.Progress?.Text == "disks 50%", "half of the disks is done");
        world.Agents.Dead = dead;
        await world.Until(() => world.All(Resources.Tasks).Single().Spec.Cancel == true, "the agent's task is cancelled", 40);
        await AssertFails(world, "DeadlineExceeded", dead ? "did not answer the cancellation" : "the restore of its disks was cancelled");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_VM_that_is_deleted_during_its_restore_is_not_recreated(bool replaced)
    {
        await using World world = await WithSnapshot();
        world.Node.VmStuck = ("ContainerCreating", "");
        await world.Add(IntoTemplate("r"));
        await world.Until(() => world.Restore("r").Status?.PodUID is not null, "the VM is created");
        await world.Api.Delete(Resources.Pods, World.Namespace, "vm-r", null, 0, default);
        if (replaced)
            await world.AddPod(TestObjects.VmPod("vm-r"));
        await AssertFails(world, replaced ? "PodExists" : "PodGone", "pod vm-r");
        Assert.Equal(replaced, world.Pod("vm-r") is not null);
    }

    [Fact]
    public async Task Of_two_restores_into_one_pod_the_older_gets_it()
    {
        await using World world = await WithSnapshot();
        await world.AddPod(TestObjects.VmPod(Vm));
        world.Agents.Slow = true;
        await world.Add(IntoPod("z"));
        await world.Steps(4);
        await world.Add(IntoPod("a"));
        await world.Steps(3);
        Assert.Equal($"False PodInUse: restore z is using pod {Vm}", world.RestoreCondition("a"));
        Assert.Equal(1, world.TasksEver(TaskAction.Restore));
    }

    [Fact]
    public async Task A_silent_agent_is_reported()
    {
        await using World world = await WithSnapshot();
        await world.AddPod(TestObjects.VmPod(Vm));
        world.Agents.Dead = true;
        await world.Add(IntoPod("r"));
        await world.Steps(50);
        Assert.StartsWith(
            "False AgentSilent: no agent on node node-1 has taken the task",
            world.RestoreCondition("r"),
            StringComparison.Ordinal
        );
    }

    private static async Task AssertFails(World world, string reason, string part)
    {
        await world.UntilRestore("r", RestorePhase.Failed);
        Assert.StartsWith($"False {reason}: ", world.RestoreCondition("r"), StringComparison.Ordinal);
        Assert.Contains(part, world.RestoreCondition("r"), StringComparison.Ordinal);
        Assert.StartsWith($"True {reason}: ", world.RestoreCondition("r", ConditionTypes.Stalled), StringComparison.Ordinal);
        await world.Steps(4);
        Assert.DoesNotContain(world.All(CoreResources.Pods), p => p.Metadata.Labels?.ContainsKey(Names.RestoreLabel) == true);
        Assert.DoesNotContain(world.All(CoreResources.Claims), c => c.Metadata.Labels?.ContainsKey(Names.RestoreLabel) == true);
        Assert.DoesNotContain(world.All(Resources.Tasks), t => t.Spec.Action != TaskAction.Delete);
        Assert.True(world.Restore("r").Metadata.Finalizers is null or { Count: 0 });
    }
}
