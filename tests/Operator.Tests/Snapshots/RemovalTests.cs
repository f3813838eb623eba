using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;

namespace Bgsnap.Operator.Tests.Snapshots;

/// <summary>A snapshot is deleted in any phase.</summary>
public sealed class RemovalTests
{
    private const string BeforeAnything = "before the operator saw it";

    public static TheoryData<string, string> PhasesAndPolicies
    {
        get
        {
            TheoryData<string, string> all = [];
            foreach (
                string phase in new[]
                {
                    BeforeAnything,
                    SnapshotPhase.Pending,
                    SnapshotPhase.Queued,
                    SnapshotPhase.Preparing,
                    SnapshotPhase.Capturing,
                    "Capturing half",
                    SnapshotPhase.Ready,
                    SnapshotPhase.Failed,
                }
            )
            foreach (string policy in new[] { "Delete", "Retain" })
                all.Add(phase, policy);
            return all;
        }
    }

    [Theory]
    [MemberData(nameof(PhasesAndPolicies))]
    public async Task Deleted_in_any_phase_it_leaves_what_its_policy_says(string phase, string policy)
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, phase, policy);
        await world.Delete("a");
        world.Node.Stuck = null;
        await world.Until(() => world.Find("a") is null, "the snapshot is gone", 120);
        await world.Steps(3);
        Assert.DoesNotContain(world.All(Resources.Tasks), t => t.Metadata.Name.StartsWith("a-", StringComparison.Ordinal));
        Assert.DoesNotContain(world.Carriers, c => c.Metadata.Name.StartsWith("a-", StringComparison.Ordinal));
        bool kept = phase == SnapshotPhase.Ready && policy == "Retain";
        Assert.Equal(kept ? 1 : 0, world.Agents.Directories.Count(d => d.StartsWith("a-", StringComparison.Ordinal)));
        Assert.Empty(world.Problems);
        // The slot on the node is free again.
        world.Agents.Slow = false;
        await world.Add(TestObjects.Snapshot("next"));
        await world.UntilPhase("next", SnapshotPhase.Ready, 60);
    }

    private static async Task Reach(World world, string phase, string policy)
    {
        if (phase == SnapshotPhase.Queued)
        {
            world.Agents.Slow = true;
            await world.Add(TestObjects.Snapshot("z"));
            await world.UntilPhase("z", SnapshotPhase.Capturing);
        }
        VMBackgroundSnapshot a = TestObjects.Snapshot("a", change: s => s.DeletionPolicy = policy);
        if (phase == SnapshotPhase.Pending)
            a.Spec.Target.PersistentVolumeClaim!.ClaimName = "missing";
        if (phase == SnapshotPhase.Preparing)
            world.Node.Stuck = ("ContainerCreating", "");
        if (phase == SnapshotPhase.Failed)
            world.Agents.CaptureFails = ("DiskFull", "no space left");
        if (phase == "Capturing half")
            world.Agents.Slow = true;
        await world.Add(a);
        if (phase == BeforeAnything)
            return;
        if (phase == "Capturing half")
            await world.Until(() => world.Snapshot("a").Status?.Progress?.Percent == 50, "half is done");
        else
            await world.UntilPhase("a", phase);
        world.Agents.CaptureFails = null;
    }

    [Fact]
    public async Task A_running_capture_is_cancelled_and_the_guest_resumed_before_anything_else()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, "Capturing half", "Delete");
        await world.Delete("a");
        await world.Reconcile();
        Assert.True(world.All(Resources.Tasks).Single().Spec.Cancel);
        Assert.Single(world.Carriers); // the claim stays mounted until the agent has finished
        Assert.Contains("Normal CaptureCancelled", world.Events("a"));
        await world.Until(() => world.Find("a") is null, "the snapshot is gone");
        Assert.Equal(0, world.TasksEver(TaskAction.Delete)); // an agent that reported the end of its capture left no file
    }

    [Fact]
    public async Task A_dead_agent_delays_the_deletion_for_a_minute_after_the_cancellation()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, "Capturing half", "Retain");
        world.Agents.Dead = true;
        await world.Operator.DisposeAsync();
        await world.Delete("a");
        world.Clock.Advance(TimeSpan.FromMinutes(10)); // no operator leads
        await world.Restart();
        await world.Steps(20);
        // A user changes the snapshot, which triggers an early reconcile: the agent still has the rest of its minute.
        await world.Annotate("a", "touched", "yes");
        await world.Steps(30);
        Assert.NotNull(world.Find("a"));
        Assert.True(world.All(Resources.Tasks).Single().Spec.Cancel);
        await world.Steps(15);
        Assert.Null(world.Find("a"));
        Assert.Contains("Warning AgentSilent", world.Events("a"));
        Assert.Empty(world.All(Resources.Tasks));
    }

    [Fact]
    public async Task A_task_on_any_node_that_can_mount_the_claim_removes_the_files()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        string directory = world.Snapshot("a").Status!.Directory!;
        world.Agents.Dead = true;
        await world.Delete("a");
        await world.Until(() => world.All(Resources.Tasks).Count == 1, "the task is there");
        SnapshotTask task = world.All(Resources.Tasks).Single();
        Assert.Equal((TaskAction.Delete, FakeNode.AnyNode, directory), (task.Spec.Action, task.Spec.NodeName, task.Spec.Directory));
        Assert.Equal((directory + "-delete", directory + "-cleaner"), (task.Metadata.Name, task.Spec.Carrier.PodName));
        Assert.Null(task.Spec.Source);
        Assert.Equal(SnapshotPhase.Deleting, world.Snapshot("a").Status!.Phase);
        Assert.Null(
            world.All(CoreResources.Pods).Single(p => p.Metadata.Name.EndsWith("-cleaner", StringComparison.Ordinal)).Spec.Affinity
        );
        world.Agents.Dead = false;
        await world.Until(() => world.Find("a") is null, "the snapshot is gone");
        Assert.Empty(world.Agents.Directories);
    }

    [Fact]
    public async Task Files_that_cannot_be_removed_are_reported_and_retried_each_minute()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        world.Agents.DeleteFails = ("DeleteFailed", "lost+found: something in it could not be removed");
        await world.Delete("a");
        await world.Steps(150);
        Assert.InRange(world.TasksEver(TaskAction.Delete), 2, 3);
        Assert.Equal(SnapshotPhase.Deleting, world.Snapshot("a").Status!.Phase);
        Assert.Equal(
            "False DeleteFailed: the files in a-00000003 on claim snapshots could not be removed: lost+found: something in it "
                + "could not be removed"
                + " (if the volume is permanently lost: kubectl -n prod annotate vmbgs a bgsnap.io/abandon-files=true leaves "
                + "the files behind)",
            world.Condition("a", ConditionTypes.Ready)
        );
        world.Agents.DeleteFails = null;
        await world.Until(() => world.Find("a") is null, "the snapshot is gone", 90);
        Assert.InRange(world.EventObjects("a").Count(e => e.Reason == "DeleteFailed"), 1, 3);
    }

    [Theory]
    [InlineData("true", true)]
    [InlineData("false", false)]
    [InlineData("", false)]
    public async Task Files_that_cannot_be_removed_are_abandoned_on_request(string value, bool goes)
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        world.Agents.DeleteFails = ("DeleteFailed", "lost+found: something in it could not be removed");
        await world.Delete("a");
        await world.Until(
            () =>
                world
                    .Condition("a", ConditionTypes.Ready)
                    .Contains("annotate vmbgs a bgsnap.io/abandon-files=true", StringComparison.Ordinal),
            "the way out is named"
        );
        await world.Annotate("a", Names.AbandonFilesAnnotation, value);
        await world.Steps(5);
        Assert.Equal(goes, world.Find("a") is null);
        Assert.Equal(goes, world.Events("a").Contains("Warning FilesAbandoned"));
        if (!goes)
            return;
        Assert.Contains(
            "directory a-00000003 on claim snapshots was abandoned",
            world.EventObjects("a").Single(e => e.Reason == "FilesAbandoned").Message,
            StringComparison.Ordinal
        );
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        Assert.Single(world.Agents.Directories);
    }

    [Fact]
    public async Task A_claim_that_no_node_can_mount_is_abandoned_on_request()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        world.Node.Unschedulable = "0/1 nodes are available";
        await world.Delete("a");
        await world.Steps(5);
        Assert.Contains("abandon-files=true", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        await world.Annotate("a", Names.AbandonFilesAnnotation, "true");
        await world.Steps(5);
        Assert.Null(world.Find("a"));
        Assert.Empty(world.Carriers);
        Assert.Contains("Warning FilesAbandoned", world.Events("a"));
    }

    [Fact]
    public async Task Abandoned_before_the_deletion_it_still_resumes_the_guest_first()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, "Capturing half", "Delete");
        await world.Annotate("a", Names.AbandonFilesAnnotation, "true");
        await world.Delete("a");
        await world.Reconcile();
        Assert.True(world.All(Resources.Tasks).Single().Spec.Cancel);
        await world.Until(() => world.Find("a") is null, "the snapshot is gone");
        // The snapshot had no files: nothing was abandoned.
        Assert.DoesNotContain("Warning FilesAbandoned", world.Events("a"));
        Assert.Empty(world.Agents.Directories);
    }

    [Fact]
    public async Task A_claim_that_no_node_can_mount_delays_the_deletion_and_the_condition_says_so()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        world.Node.Unschedulable = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
        await world.Delete("a");
        await world.Steps(30);
        Assert.StartsWith(
            "False CarrierUnschedulable: pod a-00000003-cleaner, which mounts claim snapshots, cannot be scheduled: 0/1",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
        await world.Api.Delete(CoreResources.Claims, World.Namespace, TestObjects.Claim, null, null, default);
        await world.Until(() => world.Find("a") is null, "without its claim it goes", 30);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Files_on_a_claim_that_is_deleted_are_reported_as_left_behind(bool terminating)
    {
        await using World world = await TestObjects.WithVm();
        await SetClaim(world, new JsonObject { ["spec"] = new JsonObject { ["volumeName"] = "pv-7" } });
        await Reach(world, SnapshotPhase.Ready, "Delete");
        if (terminating)
            await SetClaim(
                world,
                new JsonObject { ["metadata"] = new JsonObject { ["finalizers"] = new JsonArray("kubernetes.io/pvc-protection") } }
            );
        await world.Api.Delete(CoreResources.Claims, World.Namespace, TestObjects.Claim, null, null, default);
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "the snapshot is gone", 30);
        string message = world.EventObjects("a").Single(e => e.Reason == "FilesLeftBehind").Message;
        Assert.StartsWith(
            "the files in directory a-00000003 were not removed, because claim snapshots is",
            message,
            StringComparison.Ordinal
        );
        Assert.Contains(terminating ? "volume pv-7" : "its volume", message, StringComparison.Ordinal);
        Assert.Equal(terminating ? 1 : 0, world.EventObjects("pv-7").Count());
    }

    [Fact]
    public async Task Files_that_were_removed_before_the_claim_are_not_reported()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        await world.Delete("a");
        await world.Until(() => world.TasksEver(TaskAction.Delete) == 1, "the task is there", 30);
        await world.Agents.Tick();
        await world.Agents.Tick();
        Assert.Empty(world.Agents.Directories);
        await world.Api.Delete(CoreResources.Claims, World.Namespace, TestObjects.Claim, null, null, default);
        await world.Until(() => world.Find("a") is null, "the snapshot is gone", 30);
        Assert.DoesNotContain("Warning FilesLeftBehind", world.Events("a"));
    }

    private static Task<V1PersistentVolumeClaim> SetClaim(World world, JsonObject patch) =>
        world.Api.MergePatch(CoreResources.Claims, World.Namespace, TestObjects.Claim, null, patch, default);

    // The agent ended the capture while no operator ran, and the snapshot was deleted before the next operator started.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Files_that_the_status_does_not_mention_yet_are_removed(bool answerLost)
    {
        await using World world = await TestObjects.WithVm();
        world.Fault = (_, r) =>
            r is not { Verb: "create", Plural: "snapshottasks" } ? Fault.None
            : answerLost ? Fault.AnswerLost
            : Fault.CrashAfter;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(() => world.TasksEver(TaskAction.Capture) == 1, "the task is there");
        await world.Operator.DisposeAsync();
        for (int i = 0; i < 5; i++)
            await world.Agents.Tick();
        Assert.Single(world.Agents.Directories);
        await world.Delete("a");
        world.Fault = (_, _) => Fault.None;
        await world.Restart();
        await world.Until(() => world.Find("a") is null, "the snapshot is gone");
        Assert.Empty(world.Agents.Directories);
    }

    [Fact]
    public async Task A_namespace_that_is_being_deleted_is_not_delayed()
    {
        await using World world = await TestObjects.WithVm();
        await SetClaim(world, new JsonObject { ["spec"] = new JsonObject { ["volumeName"] = "pv-7" } });
        await Reach(world, SnapshotPhase.Ready, "Delete");
        await world.Steps(3);
        world.Fault = (_, _) => Fault.NamespaceEnds;
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "the snapshot is gone", 5);
        Assert.Empty(world.Problems);
        // No event can be created in the namespace any more; the volume has none.
        Corev1Event left = Assert.Single(world.EventObjects("pv-7"));
        Assert.Equal(
            ("default", "PersistentVolume", null, "FilesLeftBehind"),
            (left.Metadata.NamespaceProperty, left.InvolvedObject.Kind, left.InvolvedObject.NamespaceProperty, left.Reason)
        );
        Assert.Contains("snapshot prod/a", left.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_evicted_cleaner_is_recreated()
    {
        await using World world = await TestObjects.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        world.Node.Evict = 1;
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "the snapshot is gone", 90);
        Assert.Empty(world.Agents.Directories);
    }
}
