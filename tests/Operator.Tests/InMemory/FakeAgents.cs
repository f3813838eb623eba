using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.VolumeSnapshots;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>The agents of all nodes: an agent takes each task, reports 50 %, and ends it, unless the test says otherwise.</summary>
internal sealed class FakeAgents(InMemoryApi api, TimeProvider clock)
{
    /// <summary>No agent does anything.</summary>
    internal bool Dead { get; set; }

    /// <summary>Tasks with a progress stay at 50 %.</summary>
    internal bool Slow { get; set; }

    /// <summary>How captures fail; null: they succeed.</summary>
    internal (string Reason, string Message)? CaptureFails { get; set; }

    /// <summary>How removals fail; null: they succeed.</summary>
    internal (string Reason, string Message)? DeleteFails { get; set; }

    /// <summary>How writing disks fails; null: it succeeds.</summary>
    internal (string Reason, string Message)? DisksFail { get; set; }

    /// <summary>How loading RAM fails; null: it succeeds.</summary>
    internal (string Reason, string Message)? RestoreFails { get; set; }

    /// <summary>Why the file systems of restored guests are still frozen; null: they are not.</summary>
    internal string? StillFrozen { get; set; }

    /// <summary>Guests run before their RAM has arrived; it arrives in the next step, unless <see cref="Slow"/> is set.</summary>
    internal bool Instant { get; set; }

    /// <summary>Why no RAM arrives; null: it does.</summary>
    internal (string Reason, string Message)? Starved { get; set; }

    /// <summary>The restored guests that run, by the pod's uid, in order.</summary>
    internal List<string> Running { get; } = [];

    /// <summary>The written paths on claims, in order.</summary>
    internal List<string> Written { get; } = [];

    /// <summary>What snapshots store of the captured VM.</summary>
    internal MachineDescription? Machine { get; set; }

    /// <summary>How reading it fails; null: it succeeds.</summary>
    internal (string Reason, string Message)? DescribeFails { get; set; }

    /// <summary>The snapshot directories on claims.</summary>
    internal HashSet<string> Directories { get; } = [];

    /// <summary>The captures in the order in which they began.</summary>
    internal List<string> Begun { get; } = [];

    /// <summary>The largest number of captures at once on one node.</summary>
    internal int MostAtOnce { get; private set; }

    /// <summary>The largest number of restore tasks at once on one node.</summary>
    internal int MostRestores { get; private set; }

    /// <summary>The disks of the VM of which the operator makes VolumeSnapshots.</summary>
    internal List<DiskStatus> HeldDisks { get; set; } =
    [
        new DiskStatus
        {
            Name = "vda",
            Method = DiskCaptureMethod.None,
            Path = "/disks/root/disk.img",
        },
        new DiskStatus
        {
            Name = "vdb",
            Method = DiskCaptureMethod.None,
            Path = "/dev/data",
        },
        new DiskStatus
        {
            Name = "cd0",
            Method = DiskCaptureMethod.None,
            Note = "read-only",
            Path = "/iso/cloud-init.iso",
        },
    ];

    /// <summary>The seconds for which the agent held a guest stopped, by task.</summary>
    internal Dictionary<string, int> Held { get; } = [];

    /// <summary>The VolumeSnapshot names with which the operator released guests, by task.</summary>
    internal Dictionary<string, IReadOnlyDictionary<string, string>> Released { get; } = [];

    // As an agent does: it resumes the guest on release, on cancellation, or after maxDowntime.
    private Task<SnapshotTask> Hold(SnapshotTask task)
    {
        if (task.Status!.Holding != true)
        {
            Held[task.Metadata.Name] = 0;
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Holding = true,
                    Result = new CaptureResult { Disks = HeldDisks },
                }
            );
        }
        if (task.Spec.Release == true)
        {
            Released[task.Metadata.Name] = task.Spec.VolumeSnapshots!;
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Holding = false,
                    Percent = 50,
                    PointInTime = Now(),
                }
            );
        }
        string longest = task.Spec.Capture!.MaxDowntime ?? "10s";
        if (++Held[task.Metadata.Name] < int.Parse(longest.TrimEnd('s'), System.Globalization.CultureInfo.InvariantCulture))
            return Task.FromResult(task);
        return End(
            task,
            ("DowntimeExceeded", $"the guest would have been stopped for longer than {longest}; it runs on and nothing was kept")
        );
    }

    private static bool IsRestore(SnapshotTask task) => task.Spec.Action is TaskAction.Restore or TaskAction.RestoreDisks;

    internal static CaptureResult Measured { get; } =
        new()
        {
            DowntimeMicroseconds = 1234,
            ProtectionWindowMicroseconds = 850_000,
            TotalMicroseconds = 2_500_000,
            Faults = 321,
            FaultP99Microseconds = 90,
            RamBytes = 1L << 30,
            StoredBytes = 1_288_490_189,
            Engine = "Agent",
            EngineReason = "asked for",
            Indications = [SnapshotIndication.Online, SnapshotIndication.GuestAgent],
            DiskMethod = DiskCaptureMethod.CopyBeforeWrite,
            Disks =
            [
                new DiskStatus
                {
                    Name = "vda",
                    VirtualSize = 8L << 30,
                    StoredBytes = 1L << 28,
                    Method = DiskCaptureMethod.CopyBeforeWrite,
                    Driver = "raw",
                    Path = "/disks/0/disk.img",
                },
                new DiskStatus
                {
                    Name = "cd0",
                    VirtualSize = 1L << 20,
                    StoredBytes = 0,
                    Method = DiskCaptureMethod.None,
                    Note = "read-only",
                    Driver = "raw",
                    Path = "/iso/cloud-init.iso",
                },
            ],
            ManifestChecksum = "sha256:abcd",
        };

    internal async Task Tick()
    {
        List<SnapshotTask> tasks = (await api.List(Resources.Tasks, null, null, default)).Items;
        if (!Dead)
            foreach (SnapshotTask task in tasks)
                await Tick(task);
        MostRestores = Math.Max(
            MostRestores,
            tasks
                .Where(t => IsRestore(t) && t.Status?.Phase == TaskPhase.Running)
                .CountBy(t => t.Spec.NodeName)
                .Select(p => p.Value)
                .DefaultIfEmpty()
                .Max()
        );
        MostAtOnce = Math.Max(
            MostAtOnce,
            tasks
                .Where(t => t.Spec.Action == TaskAction.Capture && t.Status?.Phase == TaskPhase.Running)
                .CountBy(t => t.Spec.NodeName)
                .Select(p => p.Value)
                .DefaultIfEmpty()
                .Max()
        );
    }

    private Task Tick(SnapshotTask task)
    {
        SnapshotTaskStatus? status = task.Status;
        if (TaskPhase.IsTerminal(status?.Phase))
            return Task.CompletedTask;
        if (task.Spec.Cancel == true)
            return End(task, ("Cancelled", "cancelled; the guest runs on and nothing was kept"));
        if (status is null)
        {
            if (task.Spec.Action == TaskAction.Capture)
                Begun.Add(task.Metadata.Name);
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Phase = TaskPhase.Running,
                    Percent = 0,
                    StartTime = Now(),
                }
            );
        }
        if (task.Spec.Capture?.DiskMethod == DiskCaptureMethod.VolumeSnapshot && status.Percent == 0)
            return Hold(task);
        if (task.Spec.Action != TaskAction.Delete && status.Percent == 0)
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Percent = 50,
                    Bytes = 1L << 29,
                    BytesPerSecond = 1L << 29,
                    PointInTime = IsRestore(task) ? null : Now().AddMilliseconds(123),
                }
            );
        if (task.Spec.Action == TaskAction.Restore && Instant && status.GuestRuns != true)
            return Resume(task);
        if (
            task.Spec.Action == TaskAction.Restore
            && Instant
            && RestoreFails is null
            && (Starved is not null || status.Reason is { Length: > 0 })
        )
            return Report(task, new SnapshotTaskStatus { Reason = Starved?.Reason ?? "", Message = Starved?.Message ?? "" });
        if (task.Spec.Action != TaskAction.Delete && Slow)
            return Task.CompletedTask;
        return End(
            task,
            task.Spec.Action switch
            {
                TaskAction.Capture => CaptureFails,
                TaskAction.Restore => RestoreFails,
                TaskAction.RestoreDisks => DisksFail,
                TaskAction.Describe => DescribeFails,
                _ => DeleteFails,
            }
        );
    }

    // For a guest that already runs, loads only the rest of its RAM.
    private Task<SnapshotTask> Resume(SnapshotTask task)
    {
        string pod = task.Spec.Target!.PodUID;
        bool first = !Running.Contains(pod);
        if (first)
            Running.Add(pod);
        return Report(
            task,
            new SnapshotTaskStatus
            {
                GuestRuns = true,
                Percent = 50,
                Result = new CaptureResult
                {
                    TimeToRunMicroseconds = first ? 35_000 : null,
                    RestoreMode = "Instant",
                    RestoreModeReason = "asked for",
                    Faults = 12,
                    FaultP99Microseconds = 90,
                },
            }
        );
    }

    private Task<SnapshotTask> End(SnapshotTask task, (string Reason, string Message)? failure)
    {
        if (failure is { } f)
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Phase = TaskPhase.Failed,
                    Reason = f.Reason,
                    Message = f.Message,
                    CompletionTime = Now(),
                }
            );
        if (task.Spec.Action == TaskAction.Delete)
        {
            Directories.Remove(task.Spec.Directory);
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Phase = TaskPhase.Succeeded,
                    Percent = 100,
                    CompletionTime = Now(),
                }
            );
        }
        if (task.Spec.Action == TaskAction.Describe)
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Phase = TaskPhase.Succeeded,
                    Percent = 100,
                    CompletionTime = Now(),
                    Machine = Machine,
                }
            );
        if (task.Spec.Action == TaskAction.RestoreDisks)
        {
            Written.AddRange(task.Spec.Disks!.Select(d => d.Path));
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Phase = TaskPhase.Succeeded,
                    Percent = 100,
                    CompletionTime = Now(),
                }
            );
        }
        if (task.Spec.Action == TaskAction.Restore)
        {
            if (!Instant)
                Running.Add(task.Spec.Target!.PodUID);
            return Report(
                task,
                new SnapshotTaskStatus
                {
                    Phase = TaskPhase.Succeeded,
                    Percent = 100,
                    CompletionTime = Now(),
                    Reason = StillFrozen is null ? null : "GuestFrozen",
                    Message = StillFrozen,
                    Result = new CaptureResult { TimeToRunMicroseconds = 850_000, RamBytes = 1L << 30 },
                }
            );
        }
        Directories.Add(task.Spec.Directory);
        return Report(
            task,
            new SnapshotTaskStatus
            {
                Phase = TaskPhase.Succeeded,
                Percent = 100,
                CompletionTime = Now(),
                Result = Measured,
            }
        );
    }

    private Task<SnapshotTask> Report(SnapshotTask task, SnapshotTaskStatus status) =>
        api.MergePatch(
            Resources.Tasks,
            task.Metadata.NamespaceProperty,
            task.Metadata.Name,
            "status",
            new JsonObject { ["status"] = JsonSerializer.SerializeToNode(status, BgsnapJson.Default.SnapshotTaskStatus) },
            default
        );

    private DateTime Now() => clock.GetUtcNow().UtcDateTime;
}
