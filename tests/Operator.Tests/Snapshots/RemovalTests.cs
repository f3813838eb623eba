using Bgsnap.Crds.Client;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Tests.InMemory;

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
    public async Task In_every_phase_it_goes_and_leaves_what_its_policy_says(string phase, string policy)
    {
        await using World world = await Things.WithVm();
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
        await world.Add(Things.Snapshot("next"));
        await world.UntilPhase("next", SnapshotPhase.Ready, 60);
    }

    private static async Task Reach(World world, string phase, string policy)
    {
        if (phase == SnapshotPhase.Queued)
        {
            world.Agents.Slow = true;
            await world.Add(Things.Snapshot("z"));
            await world.UntilPhase("z", SnapshotPhase.Capturing);
        }
        VMBackgroundSnapshot a = Things.Snapshot("a", change: s => s.DeletionPolicy = policy);
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
    public async Task A_capture_under_way_is_cancelled_first_and_the_guest_is_free_before_anything_else()
    {
        await using World world = await Things.WithVm();
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
    public async Task A_dead_agent_holds_it_up_for_a_minute_counted_from_when_it_was_told()
    {
        await using World world = await Things.WithVm();
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
    public async Task The_files_are_removed_by_a_task_on_whatever_node_the_claim_gets_to()
    {
        await using World world = await Things.WithVm();
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
    public async Task Files_that_cannot_be_removed_are_said_and_tried_again_each_minute()
    {
        await using World world = await Things.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        world.Agents.DeleteFails = ("DeleteFailed", "lost+found: something in it could not be removed");
        await world.Delete("a");
        await world.Steps(150);
        Assert.InRange(world.TasksEver(TaskAction.Delete), 2, 3);
        Assert.Equal(SnapshotPhase.Deleting, world.Snapshot("a").Status!.Phase);
        Assert.Equal(
            "False DeleteFailed: the files in a-00000003 on claim snapshots could not be removed: lost+found: something in it "
                + "could not be removed"
                + " (should that be lost for good: kubectl -n prod annotate vmbgs a bgsnap.io/abandon-files=true leaves the files behind)",
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
    public async Task Files_that_cannot_be_removed_are_given_up_when_the_user_says_so(string value, bool goes)
    {
        await using World world = await Things.WithVm();
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
            "directory a-00000003 on claim snapshots was given up",
            world.EventObjects("a").Single(e => e.Reason == "FilesAbandoned").Message,
            StringComparison.Ordinal
        );
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        Assert.Single(world.Agents.Directories);
    }

    [Fact]
    public async Task A_claim_that_no_node_can_mount_is_given_up_when_the_user_says_so()
    {
        await using World world = await Things.WithVm();
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
    public async Task Said_before_the_deletion_it_still_frees_the_guest_first()
    {
        await using World world = await Things.WithVm();
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
    public async Task A_claim_that_cannot_get_to_any_node_holds_it_up_and_is_said()
    {
        await using World world = await Things.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        world.Node.Unschedulable = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
        await world.Delete("a");
        await world.Steps(30);
        Assert.StartsWith(
            "False CarrierUnschedulable: pod a-00000003-cleaner, which brings claim snapshots, cannot be scheduled: 0/1",
            world.Condition("a", ConditionTypes.Ready),
            StringComparison.Ordinal
        );
        await world.Api.Delete(CoreResources.Claims, World.Namespace, Things.Claim, null, null, default);
        await world.Until(() => world.Find("a") is null, "without its claim it goes", 30);
    }

    // The agent ended the capture while no operator ran, and the snapshot was deleted before the next operator started.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Files_that_nobody_had_noted_yet_are_removed_too(bool answerLost)
    {
        await using World world = await Things.WithVm();
        world.Fault = (_, r) =>
            r is not { Verb: "create", Plural: "snapshottasks" } ? Fault.None
            : answerLost ? Fault.AnswerLost
            : Fault.CrashAfter;
        await world.Add(Things.Snapshot("a"));
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
    public async Task A_namespace_that_is_being_deleted_is_not_held_up()
    {
        await using World world = await Things.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        await world.Steps(3);
        world.Fault = (_, _) => Fault.NamespaceEnds;
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "the snapshot is gone", 5);
        Assert.Empty(world.Problems);
    }

    [Fact]
    public async Task A_cleaner_that_was_evicted_is_made_again()
    {
        await using World world = await Things.WithVm();
        await Reach(world, SnapshotPhase.Ready, "Delete");
        world.Node.Evict = 1;
        await world.Delete("a");
        await world.Until(() => world.Find("a") is null, "the snapshot is gone", 90);
        Assert.Empty(world.Agents.Directories);
    }
}
