using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;
using Xunit.Abstractions;

namespace Bgsnap.Operator.Tests.Snapshots;

public sealed class SuccessTests(ITestOutputHelper output)
{
    private const int MostWrites = 15;

    [Fact]
    public async Task From_apply_to_Ready_each_step_is_reported()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        List<string> phases = [];
        for (int i = 0; i < 20; i++)
        {
            await world.Step();
            string phase = world.Snapshot("a").Status!.Phase!;
            if (phases.LastOrDefault() != phase)
                phases.Add(phase);
        }
        Assert.Equal([SnapshotPhase.Preparing, SnapshotPhase.Capturing, SnapshotPhase.Ready], phases);
        Assert.Equal(["Normal CarrierStarting", "Normal CaptureOrdered", "Normal PointInTime", "Normal SnapshotReady"], world.Events("a"));
        Assert.Equal(
            ["mounting claim snapshots on node node-1", "waiting for the agent on node node-1 to start"],
            world.EventObjects("a").Take(2).Select(e => e.Message)
        );
        Assert.Equal("written to a-00000003 on claim snapshots: downtime 1.23ms, 1.2Gi", world.EventObjects("a").Last().Message);
        Assert.Empty(world.Problems);
    }

    [Fact]
    public async Task A_Ready_snapshot_says_everything()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        VMBackgroundSnapshot a = world.Snapshot("a");
        SnapshotStatus s = a.Status!;
        Assert.Equal(1, s.ObservedGeneration);
        Assert.Equal(("node-1", "db"), (s.NodeName, s.PodName));
        Assert.Equal(world.All(Resources.Pods).Single(p => p.Metadata.Name == "db").Metadata.Uid, s.PodUID);
        Assert.Equal(("snapshots", "a-00000003"), (s.ClaimName, s.Directory));
        Assert.Equal((100, "100%", 1L << 30), (s.Progress!.Percent, s.Progress.Text, s.Progress.Bytes));
        Assert.Equal(("1.23ms", "850ms", 321), (s.Downtime, s.ProtectionWindow, s.Faults));
        Assert.Equal((1L << 30, 1_288_490_189, "1.2Gi"), (s.RamBytes, s.StoredBytes, s.Size));
        Assert.Equal(("Agent", "asked for", "sha256:abcd"), (s.Engine, s.EngineReason, s.ManifestChecksum));
        Assert.Equal(["Online", "GuestAgent"], s.Indications);
        Assert.Equal("CopyBeforeWrite", s.DiskMethod);
        Assert.Equal(
            [
                ("vda", 8L << 30, 1L << 28, "CopyBeforeWrite", null, "/disks/0/disk.img"),
                ("cd0", 1L << 20, 0L, "None", "read-only", "/iso/cloud-init.iso"),
            ],
            s.Disks!.Select(d => (d.Name, d.VirtualSize!.Value, d.StoredBytes!.Value, d.Method, d.Note, d.Path))
        );
        Assert.InRange(s.PointInTime!.Value, a.Metadata.CreationTimestamp!.Value, s.CompletionTime!.Value);
        Assert.Equal(123, s.PointInTime.Value.Millisecond);
        Assert.Equal("True SnapshotReady: written to a-00000003 on claim snapshots", world.Condition("a", ConditionTypes.Ready));
        Assert.Equal("False SnapshotReady: ", world.Condition("a", ConditionTypes.Reconciling));
        Assert.Equal("False SnapshotReady: ", world.Condition("a", ConditionTypes.Stalled));
        Assert.StartsWith(
            "True Fixed: the snapshot shows the guest at 2026-01-02T03:04:",
            world.Condition("a", ConditionTypes.PointInTime),
            StringComparison.Ordinal
        );
        Assert.All(s.Conditions!, c => Assert.Equal(1, c.ObservedGeneration));
    }

    [Fact]
    public async Task Nothing_is_left_over_but_the_snapshot()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        await world.Steps(2);
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
        Assert.Equal([Names.Finalizer], world.Snapshot("a").Metadata.Finalizers);
        int requests = world.Requests.Count;
        await world.Steps(100);
        Assert.Equal(requests, world.Requests.Count);
        Assert.Equal(0, await world.Operator.Orphans.Sweep(default));
    }

    [Fact]
    public async Task It_takes_few_writes()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        await world.UntilPhase("a", SnapshotPhase.Ready);
        await world.Steps(3);
        List<Request> writes = [.. world.Requests.Where(r => r.IsWrite)];
        output.WriteLine($"{writes.Count} writes, {world.Requests.Count - writes.Count} reads:");
        foreach (Request r in world.Requests)
            output.WriteLine("  " + r);
        Assert.InRange(writes.Count, 1, MostWrites);
    }

    [Fact]
    public async Task A_new_claim_and_a_wait_in_the_queue_also_take_few_writes()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        await world.Reconcile();
        await world.Add(TestObjects.Snapshot("b", change: TestObjects.WithTemplate));
        await world.UntilPhase("b", SnapshotPhase.Ready);
        await world.Steps(3);
        List<Request> writes = [.. world.Requests.Where(r => r.IsWrite && (r.Name.StartsWith('b') || r.Plural == "events"))];
        int events = world.Events("b").Count();
        int count = writes.Count(r => r.Plural != "events") + events;
        output.WriteLine(
            $"{count} writes: {string.Join(", ", writes.Where(r => r.Plural != "events"))}, {events} events: "
                + $"{string.Join(", ", world.Events("b"))}"
        );
        Assert.InRange(count, 1, MostWrites + 1); // three more than the simplest one: the claim, and the status and event of the queue
    }

    [Fact]
    public async Task Reports_of_each_second_do_not_all_become_writes()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        world.Agents.Slow = true;
        await world.Until(() => world.All(Resources.Tasks).SingleOrDefault()?.Status?.Percent == 50, "half is done");
        SnapshotTask task = world.All(Resources.Tasks).Single();
        int before = world.Requests.Count(r => r.IsWrite);
        for (int percent = 51; percent <= 90; percent++)
        {
            await world.Api.MergePatch(
                Resources.Tasks,
                World.Namespace,
                task.Metadata.Name,
                "status",
                new() { ["status"] = new System.Text.Json.Nodes.JsonObject { ["percent"] = percent } },
                default
            );
            await world.Step();
        }
        Assert.InRange(world.Requests.Count(r => r.IsWrite) - before, 19, 23);
        await world.Steps(2);
        Assert.Equal("90%", world.Snapshot("a").Status!.Progress!.Text);
    }

    [Fact]
    public async Task The_carrier_mounts_the_claim_on_the_node_and_has_no_other_rights()
    {
        await using World world = await TestObjects.WithVm();
        await world.Add(TestObjects.Snapshot("a"));
        await world.Reconcile();
        V1Pod pod = world.All(CoreResources.Pods).Single(p => p.Metadata.Name == "a-00000003-carrier");
        V1Container container = Assert.Single(pod.Spec.Containers);
        Assert.Equal(("carrier", "bgsnap/agent:test", "carry"), (container.Name, container.Image, Assert.Single(container.Args)));
        Assert.Equal("snapshots", Assert.Single(pod.Spec.Volumes).PersistentVolumeClaim.ClaimName);
        Assert.Equal("/snapshots", Assert.Single(container.VolumeMounts).MountPath);
        Assert.False(pod.Spec.AutomountServiceAccountToken);
        Assert.Null(pod.Spec.HostPID);
        Assert.True(pod.Spec.SecurityContext.RunAsNonRoot);
        Assert.False(container.SecurityContext.AllowPrivilegeEscalation);
        Assert.True(container.SecurityContext.ReadOnlyRootFilesystem);
        Assert.Equal(["ALL"], container.SecurityContext.Capabilities.Drop);
        Assert.Equal("RuntimeDefault", pod.Spec.SecurityContext.SeccompProfile.Type);
        V1NodeSelectorRequirement where = pod
            .Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms.Single()
            .MatchFields.Single();
        Assert.Equal(("metadata.name", "In", "node-1"), (where.Key, where.OperatorProperty, where.Values.Single()));
        Assert.Equal("Exists", Assert.Single(pod.Spec.Tolerations).OperatorProperty);
        Assert.Equal(
            ("1m", "16Mi", "64Mi"),
            (
                container.Resources.Requests["cpu"].ToString(),
                container.Resources.Requests["memory"].ToString(),
                container.Resources.Limits["memory"].ToString()
            )
        );
        AssertBelongsTo(world.Snapshot("a"), pod.Metadata);
    }

    [Fact]
    public async Task The_task_names_everything_and_no_path_of_the_host()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Dead = true;
        CaptureSpec capture = new()
        {
            Engine = "Qemu",
            Compression = "Zstd",
            MaxDowntime = "250ms",
        };
        await world.Add(TestObjects.Snapshot("a", change: s => s.Capture = capture));
        await world.Until(() => world.All(Resources.Tasks).Count == 1, "the task is there");
        SnapshotTask task = world.All(Resources.Tasks).Single();
        SnapshotTaskSpec spec = task.Spec;
        Assert.Equal(("a-00000003", "a-00000003"), (task.Metadata.Name, spec.Directory));
        Assert.Equal((TaskAction.Capture, "node-1", "node-1"), (spec.Action, spec.NodeName, task.Metadata.Labels[Names.NodeLabel]));
        PodSummary carrier = world.Carriers.Single();
        Assert.Equal(
            (carrier.Metadata.Name, carrier.Metadata.Uid, "carrier"),
            (spec.Carrier.PodName, spec.Carrier.PodUID, spec.Carrier.Container)
        );
        Assert.Equal(
            ("db", world.Snapshot("a").Status!.PodUID, "qemu", "/run/qmp.sock", "db"),
            (spec.Source!.PodName, spec.Source.PodUID, spec.Source.Container, spec.Source.QmpSocket, spec.Source.Name)
        );
        Assert.Equal(("Qemu", "Zstd", "250ms"), (spec.Capture!.Engine, spec.Capture.Compression, spec.Capture.MaxDowntime));
        Assert.Null(spec.Cancel);
        Assert.Null(spec.Source.GuestAgentSocket);
        AssertBelongsTo(world.Snapshot("a"), task.Metadata);
    }

    [Fact]
    public async Task The_task_names_the_guest_agents_socket_where_the_pod_does()
    {
        await using World world = new();
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        await world.AddPod(TestObjects.VmPod(change: p => p.Metadata.Annotations[Names.GuestAgentSocketAnnotation] = "/run/qga.sock"));
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(() => world.All(Resources.Tasks).Count == 1, "the task is there");
        Assert.Equal("/run/qga.sock", world.All(Resources.Tasks).Single().Spec.Source!.GuestAgentSocket);
    }

    [Fact]
    public async Task The_status_shows_the_progress()
    {
        await using World world = await TestObjects.WithVm();
        world.Agents.Slow = true;
        await world.Add(TestObjects.Snapshot("a"));
        await world.Until(() => world.Snapshot("a").Status?.Progress?.Percent == 50, "half is done");
        SnapshotStatus s = world.Snapshot("a").Status!;
        Assert.Equal(("50%", 1L << 29, 1L << 29), (s.Progress!.Text, s.Progress.Bytes, s.Progress.BytesPerSecond));
        Assert.NotNull(s.PointInTime);
        Assert.StartsWith("True Fixed", world.Condition("a", ConditionTypes.PointInTime), StringComparison.Ordinal);
        Assert.StartsWith("False Capturing", world.Condition("a", ConditionTypes.Ready), StringComparison.Ordinal);
        Assert.StartsWith("True Capturing", world.Condition("a", ConditionTypes.Reconciling), StringComparison.Ordinal);
    }

    // Two managers: GitOps applies the spec, the operator writes status and finalizer.
    [Fact]
    public async Task Foreign_changes_of_the_object_stay()
    {
        await using World world = await TestObjects.WithVm();
        VMBackgroundSnapshot a = TestObjects.Snapshot("a");
        a.Metadata.Finalizers = ["example.org/keep"];
        await world.Add(a);
        await world.UntilPhase("a", SnapshotPhase.Ready);
        Assert.Equal(["example.org/keep", Names.Finalizer], world.Snapshot("a").Metadata.Finalizers);
        await world.Delete("a");
        await world.Until(() => world.Snapshot("a").Metadata.Finalizers.Count == 1, "our finalizer is gone");
        Assert.Equal(["example.org/keep"], world.Snapshot("a").Metadata.Finalizers);
    }

    private static void AssertBelongsTo(VMBackgroundSnapshot snapshot, V1ObjectMeta made)
    {
        V1OwnerReference owner = Assert.Single(made.OwnerReferences);
        Assert.Equal(
            (snapshot.Metadata.Uid, snapshot.Metadata.Name, "VMBackgroundSnapshot", "bgsnap.io/v1alpha1"),
            (owner.Uid, owner.Name, owner.Kind, owner.ApiVersion)
        );
        Assert.Equal(snapshot.Metadata.Uid, made.Labels[Names.SnapshotLabel]);
        Assert.Equal(Names.ManagedBy, made.Labels[Names.ManagedByLabel]);
        Assert.Equal(World.Namespace, made.NamespaceProperty);
    }
}
