using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;

namespace Bgsnap.Operator.Tests.Snapshots;

/// <summary>The states of the source pod, and what the snapshot reports about them.</summary>
public sealed class SourceTests
{
    public sealed record Case(string Name, Action<V1Pod> Change, string Phase, string Reason, string Message)
    {
        public override string ToString() => Name;
    }

    private const string Failed = SnapshotPhase.Failed,
        Pending = SnapshotPhase.Pending;

    public static TheoryData<Case> Cases =>
        [
            new(
                "no annotation",
                p => p.Metadata.Annotations.Clear(),
                Failed,
                "NotAVirtualMachine",
                "has no annotation bgsnap.io/qmp-socket: set it to"
            ),
            new(
                "no annotations at all",
                p => p.Metadata.Annotations = null,
                Failed,
                "NotAVirtualMachine",
                "has no annotation bgsnap.io/qmp-socket"
            ),
            new(
                "empty socket",
                p => p.Metadata.Annotations[Names.QmpSocketAnnotation] = "",
                Failed,
                "NotAVirtualMachine",
                "has no annotation bgsnap.io/qmp-socket"
            ),
            new(
                "relative socket",
                p => p.Metadata.Annotations[Names.QmpSocketAnnotation] = "run/qmp",
                Failed,
                "NotAVirtualMachine",
                "must be an absolute path in the container, not 'run/qmp'"
            ),
            new(
                "relative socket of the guest agent",
                p => p.Metadata.Annotations[Names.GuestAgentSocketAnnotation] = "qga.sock",
                Failed,
                "NotAVirtualMachine",
                "annotation bgsnap.io/guest-agent-socket must be an absolute path in the container, not 'qga.sock'; without a "
                    + "guest agent, omit it"
            ),
            new(
                "several containers",
                p => p.Spec.Containers.Add(new V1Container { Name = "sidecar" }),
                Failed,
                "NotAVirtualMachine",
                "has 2 containers: name the one with QEMU in its annotation bgsnap.io/container"
            ),
            new(
                "a container that is not there",
                p => p.Metadata.Annotations[Names.ContainerAnnotation] = "vm",
                Failed,
                "NotAVirtualMachine",
                "has no container vm"
            ),
            new(
                "ended well",
                p => p.Status.Phase = "Succeeded",
                Failed,
                "SourceEnded",
                "pod db has ended (Succeeded): start the virtual machine"
            ),
            new("ended badly", p => p.Status.Phase = "Failed", Failed, "SourceEnded", "pod db has ended (Failed)"),
            new(
                "not bound to a node",
                p => (p.Spec.NodeName, p.Status) = (null, new V1PodStatus { Phase = "Pending" }),
                Pending,
                "SourceNotRunning",
                "container qemu of pod db is not running yet"
            ),
            new(
                "container not begun",
                p =>
                    p.Status.ContainerStatuses[0].State = new V1ContainerState
                    {
                        Waiting = new V1ContainerStateWaiting { Reason = "ContainerCreating" },
                    },
                Pending,
                "SourceNotRunning",
                "container qemu of pod db is not running yet"
            ),
            new(
                "container between two runs",
                p =>
                    p.Status.ContainerStatuses[0].State = new V1ContainerState
                    {
                        Terminated = new V1ContainerStateTerminated { ExitCode = 1 },
                    },
                Pending,
                "SourceNotRunning",
                "is not running yet"
            ),
        ];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_pod_without_a_running_VM_is_refused_or_makes_the_snapshot_wait(Case c)
    {
        await using World world = new();
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        await world.AddPod(TestObjects.VmPod(change: c.Change));
        await world.Add(TestObjects.Snapshot("a"));
        await world.Step();
        Assert.Equal(c.Phase, world.Snapshot("a").Status!.Phase);
        Assert.StartsWith($"False {c.Reason}: ", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        Assert.Contains(c.Message, world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        bool failed = c.Phase == Failed;
        Assert.StartsWith(failed ? "True" : "False", world.Condition("a", ConditionTypes.Stalled), StringComparison.Ordinal);
        Assert.StartsWith(failed ? "False" : "True", world.Condition("a", ConditionTypes.Reconciling), StringComparison.Ordinal);
        Assert.Equal([failed ? "Warning SnapshotFailed" : "Warning " + c.Reason], world.Events("a"));
        Assert.Equal(failed, world.Snapshot("a").Status!.CompletionTime is not null);
        Assert.Empty(world.Carriers);
        Assert.Equal(0, world.TasksEver(TaskAction.Capture));
        Assert.Equal(1, world.Snapshot("a").Status!.ObservedGeneration);
    }

    [Fact]
    public async Task A_missing_pod_makes_the_snapshot_wait_with_one_event()
    {
        await using World world = new();
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        await world.Add(TestObjects.Snapshot("a"));
        await world.Steps(60);
        Assert.Equal(
            "False SourceNotFound: pod db does not exist in namespace prod: create it, or delete this snapshot",
            world.Condition("a", ConditionTypes.Ready)
        );
        Assert.Equal(["Warning SourceNotFound"], world.Events("a"));
        Assert.Equal(3, world.Requests.Count(r => r.IsWrite)); // finalizer, status, event
        await world.AddPod(TestObjects.VmPod());
        await world.UntilPhase("a", SnapshotPhase.Ready);
    }

    [Fact]
    public async Task A_named_container_of_several_is_used()
    {
        await using World world = new();
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        await world.AddPod(
            TestObjects.VmPod(change: p =>
            {
                p.Spec.Containers.Insert(0, new V1Container { Name = "sidecar" });
                p.Metadata.Annotations[Names.ContainerAnnotation] = "qemu";
            })
        );
        world.Agents.Dead = true;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(() => world.All(Resources.Tasks).Count == 1, "the task is there");
        Assert.Equal("qemu", world.All(Resources.Tasks).Single().Spec.Source!.Container);
    }

    [Fact]
    public async Task A_pod_that_disappears_before_the_capture_fails_the_snapshot()
    {
        await using World world = await TestObjects.WithVm();
        world.Node.Stuck = ("ImagePullBackOff", "no such image");
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(
            () => world.Condition("a", ConditionTypes.Ready).StartsWith("False CarrierNotStarting", StringComparison.Ordinal),
            "the carrier is stuck"
        );
        await world.Api.Delete(Resources.Pods, World.Namespace, TestObjects.Vm, null, 0, default);
        await world.UntilPhase("a", SnapshotPhase.Failed);
        Assert.Equal("False SourceEnded: pod db is gone: create another snapshot", world.Condition("a", ConditionTypes.Ready));
        Assert.DoesNotContain(world.Carriers, c => c.Metadata.DeletionTimestamp is null);
    }

    // A snapshot shows one machine: another pod of the same name is another machine, perhaps on another node.
    [Fact]
    public async Task A_pod_that_replaced_the_original_one_is_not_captured()
    {
        await using World world = await TestObjects.WithVm();
        world.Node.Stuck = ("ImagePullBackOff", "no such image");
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(
            () => world.Condition("a", ConditionTypes.Ready).StartsWith("False CarrierNotStarting", StringComparison.Ordinal),
            "the carrier is stuck"
        );
        await world.Api.Delete(Resources.Pods, World.Namespace, TestObjects.Vm, null, 0, default);
        await world.AddPod(TestObjects.VmPod(node: "node-2"));
        world.Node.Stuck = null;
        await world.UntilPhase("a", SnapshotPhase.Failed);
        Assert.Equal(
            "False SourceEnded: pod db is gone, and another pod has its name now: create another snapshot",
            world.Condition("a", ConditionTypes.Ready)
        );
        Assert.Equal(0, world.TasksEver(TaskAction.Capture));
    }

    [Fact]
    public async Task A_pod_that_is_being_deleted_cannot_be_a_source()
    {
        await using World world = await TestObjects.WithVm();
        await world.Api.Delete(Resources.Pods, World.Namespace, TestObjects.Vm, null, 30, default);
        await world.Add(TestObjects.Snapshot("a"));
        await world.Reconcile();
        Assert.Equal("False SourceEnded: pod db is being deleted", world.Condition("a", ConditionTypes.Ready));
    }
}
