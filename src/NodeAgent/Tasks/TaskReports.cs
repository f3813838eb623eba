using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.V1Alpha1;
using Microsoft.Extensions.Logging;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Writes a task's status. Progress may get lost; a beginning and an end are told until somebody hears them.</summary>
internal sealed class TaskReports(IApiClient api, ILogger log)
{
    private static readonly TimeSpan First = TimeSpan.FromMilliseconds(500), Longest = TimeSpan.FromSeconds(10);

    /// <summary>Writes it, again and again while the API server cannot be reached.</summary>
    /// <returns>False: the task is gone.</returns>
    /// <exception cref="OperationCanceledException">The program ends.</exception>
    internal async Task<bool> Insist(SnapshotTask task, SnapshotTaskStatus status, CancellationToken stop)
    {
        for (int failures = 0; ; failures++)
        {
            try
            {
                return await Write(task, status, stop).ConfigureAwait(false);
            }
            catch (Exception e) when (e is HttpRequestException or ApiException or IOException)
            {
                TimeSpan pause = Backoff.Of(failures, First, Longest);
                log.LogInformation("task {Task}: its status could not be written ({Why}), again in {Pause:0.0} s", task.Metadata.Name, e.Message, pause.TotalSeconds);
                await Task.Delay(pause, stop).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Writes it once.</summary>
    /// <returns>False: the task is gone, or could not be reached.</returns>
    internal async Task<bool> Try(SnapshotTask task, SnapshotTaskStatus status, CancellationToken stop)
    {
        try
        {
            return await Write(task, status, stop).ConfigureAwait(false);
        }
        catch (Exception e) when (e is HttpRequestException or ApiException or IOException)
        {
            log.LogDebug("task {Task}: progress was not written: {Why}", task.Metadata.Name, e.Message);
            return true;
        }
    }

    private async Task<bool> Write(SnapshotTask task, SnapshotTaskStatus status, CancellationToken stop)
    {
        JsonObject patch = new() { ["metadata"] = new JsonObject { ["uid"] = task.Metadata.Uid }, ["status"] = JsonSerializer.SerializeToNode(status, BgsnapJson.Default.SnapshotTaskStatus) };
        try
        {
            await api.MergePatch(Resources.Tasks, task.Metadata.NamespaceProperty, task.Metadata.Name, "status", patch, stop).ConfigureAwait(false);
            return true;
        }
        catch (ApiException e) when (e.IsNotFound || e.Code is 409 or 422)
        {
            // 409 and 422: another task of that name, or one whose uid is not ours.
            return false;
        }
    }
}
