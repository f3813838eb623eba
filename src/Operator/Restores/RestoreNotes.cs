using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Events;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Restores;

/// <summary>Saves a restore's status and reports its changes: events, log, metrics.</summary>
internal sealed class RestoreNotes(RestoreStore store, EventRecorder events, TimeProvider clock, ILogger<RestoreNotes> log)
{
    // Agents report every second; users and other controllers need the status less often.
    private static readonly TimeSpan ProgressEvery = TimeSpan.FromSeconds(2);
    private readonly ConcurrentDictionary<ObjectKey, DateTimeOffset> _written = new();

    /// <summary>The time until progress should be saved again.</summary>
    public TimeSpan UntilProgress(VMBackgroundRestore restore) =>
        _written.TryGetValue(ObjectKey.Of(restore), out DateTimeOffset at) ? at + ProgressEvery - clock.GetUtcNow() : TimeSpan.Zero;

    /// <summary>Forgets a restore that is gone.</summary>
    public void Forget(ObjectKey key) => _written.TryRemove(key, out _);

    /// <summary>Saves the status if it differs; fails if the object has changed since we read it.</summary>
    public async Task Save(VMBackgroundRestore restore, RestoreStatus status, CancellationToken stop)
    {
        RestoreStatus? before = restore.Status;
        if (StatusPatch.Between(before, status, BgsnapJson.Default.RestoreStatus) is { } patch)
        {
            await store.PatchStatus(restore, patch, stop).ConfigureAwait(false);
            _written[ObjectKey.Of(restore)] = clock.GetUtcNow();
        }
        await Report(restore, before, status, stop).ConfigureAwait(false);
        RestoreMetrics.Changed(restore, before, status, clock.GetUtcNow());
        if (RestorePhase.IsTerminal(status.Phase))
            Forget(ObjectKey.Of(restore));
    }

    // RAM that arrives is the normal case and gets no event; RAM that has stopped arriving, arrives again, or has all arrived does.
    private async Task ReportRam(VMBackgroundRestore restore, V1Condition? before, V1Condition? after, CancellationToken stop)
    {
        if (after is null || (before?.Status == after.Status && before.Reason == after.Reason))
            return;
        if (after.Status == "True")
        {
            if (before is not null)
                await events.Normal(restore, ConditionTypes.Resident, after.Message, stop).ConfigureAwait(false);
        }
        else if (after.Reason != Reasons.RamArrives)
        {
            await events.Warning(restore, after.Reason, after.Message, stop).ConfigureAwait(false);
        }
        else if (before is not null)
        {
            await events.Normal(restore, after.Reason, after.Message, stop).ConfigureAwait(false);
        }
    }

    private async Task Report(VMBackgroundRestore restore, RestoreStatus? old, RestoreStatus status, CancellationToken stop)
    {
        if (RestoreState.HasDisks(status) && (old is null || !RestoreState.HasDisks(old)))
            await events
                .Normal(restore, ConditionTypes.DisksRestored, Conditions.Get(status, ConditionTypes.DisksRestored)!.Message, stop)
                .ConfigureAwait(false);
        await ReportRam(restore, Conditions.Get(old, ConditionTypes.Resident), Conditions.Get(status, ConditionTypes.Resident), stop)
            .ConfigureAwait(false);
        (V1Condition? before, V1Condition? after) = (
            Conditions.Get(old, ConditionTypes.Ready),
            Conditions.Get(status, ConditionTypes.Ready)
        );
        if (after is null || (before?.Reason == after.Reason && (old?.Phase == status.Phase || before.Status == "True")))
            return;
        log.LogInformation(
            "{Namespace}/{Name}: {Phase}, {Reason}: {Message}",
            restore.Metadata.NamespaceProperty,
            restore.Metadata.Name,
            status.Phase,
            after.Reason,
            after.Message
        );
        await (
            status.Phase switch
            {
                RestorePhase.Ready or RestorePhase.Running when after.Reason != Reasons.GuestRuns => events.Warning(
                    restore,
                    after.Reason,
                    after.Message,
                    stop
                ),
                RestorePhase.Ready or RestorePhase.Running => events.Normal(
                    restore,
                    Reasons.RestoreReady,
                    $"{after.Message}{Took(restore, status)}",
                    stop
                ),
                RestorePhase.Failed => events.Warning(restore, Reasons.RestoreFailed, $"{after.Reason}: {after.Message}", stop),
                RestorePhase.Pending => events.Warning(restore, after.Reason, after.Message, stop),
                _ when after.Reason == Reasons.Restoring => Task.CompletedTask,
                _ => events.Normal(restore, after.Reason, after.Message, stop),
            }
        ).ConfigureAwait(false);
    }

    // The wait for a slot, the claim and the pod is part of the second number only.
    private static string Took(VMBackgroundRestore restore, RestoreStatus status)
    {
        string agent = status.TimeToRun is { } own ? $", {own} after the agent began" : "";
        return restore.Metadata.CreationTimestamp is { } created && status.CompletionTime is { } ran
            ? $"{agent}, {Durations.Text((long)(ran - created).TotalMicroseconds)} after the restore was created"
            : agent;
    }
}
