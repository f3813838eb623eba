using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Microsoft.Extensions.Logging;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Writes a task's status. A report of progress may get lost; the start and the end are written until the API server has them.
/// </summary>
internal sealed class TaskReports(IApiClient api, ILogger log)
{
    private static readonly TimeSpan First = TimeSpan.FromMilliseconds(500),
        Longest = TimeSpan.FromSeconds(10),
        GoneAfter = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Writes the status, and retries while the API server cannot be reached. A server that has just started may not know its own kinds for
    /// a moment, so a task counts as gone only after it has been missing for a while.
    /// </summary>
    /// <returns>False: the task is gone.</returns>
    /// <exception cref="OperationCanceledException">The program ends.</exception>
    internal async Task<bool> Insist(SnapshotTask task, SnapshotTaskStatus status, CancellationToken stop)
    {
        long? missingSince = null;
        for (int failures = 0; ; failures++)
        {
            try
            {
                if (await Write(task, status, stop).ConfigureAwait(false))
                    return true;
                missingSince ??= Environment.TickCount64;
                if (Environment.TickCount64 - missingSince > GoneAfter.TotalMilliseconds)
                    return false;
                await Task.Delay(First, stop).ConfigureAwait(false);
            }
            catch (Exception e) when (e is HttpRequestException or ApiException or IOException)
            {
                TimeSpan pause = Backoff.Of(failures, First, Longest);
                log.LogInformation(
                    "task {Task}: cannot write its status ({Why}), trying again in {Pause:0.0} s",
                    task.Metadata.Name,
                    e.Message,
                    pause.TotalSeconds
                );
                await Task.Delay(pause, stop).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Writes the status once; losing a report of progress is harmless. The watch reports whether the task is gone.</summary>
    internal async Task Try(SnapshotTask task, SnapshotTaskStatus status, CancellationToken stop)
    {
        try
        {
            _ = await Write(task, status, stop).ConfigureAwait(false);
        }
        catch (Exception e) when (e is HttpRequestException or ApiException or IOException)
        {
            log.LogDebug("task {Task}: progress was not written: {Why}", task.Metadata.Name, e.Message);
        }
    }

    private async Task<bool> Write(SnapshotTask task, SnapshotTaskStatus status, CancellationToken stop)
    {
        JsonObject patch = new()
        {
            ["metadata"] = new JsonObject { ["uid"] = task.Metadata.Uid },
            ["status"] = JsonSerializer.SerializeToNode(status, BgsnapJson.Default.SnapshotTaskStatus),
        };
        try
        {
            await api.MergePatch(Resources.Tasks, task.Metadata.NamespaceProperty, task.Metadata.Name, "status", patch, stop)
                .ConfigureAwait(false);
            return true;
        }
        catch (ApiException e) when (e.IsNotFound || e.Code is 409 or 422)
        {
            // 409 and 422: another task of that name, or one with another uid.
            return false;
        }
    }
}
