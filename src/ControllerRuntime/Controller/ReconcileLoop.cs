using System.Diagnostics;
using Bgsnap.ControllerRuntime.Client;
using Microsoft.Extensions.Logging;

namespace Bgsnap.ControllerRuntime.Controller;

/// <summary>Workers that take keys from a queue and reconcile them; a key that fails is retried after a pause.</summary>
public sealed class ReconcileLoop(string name, WorkQueue queue, IReconciler reconciler, int workers, ILogger log)
{
    /// <summary>Runs until stopped; completes when every worker has finished its current key.</summary>
    public Task Run(CancellationToken stop) => Task.WhenAll(Enumerable.Range(0, workers).Select(_ => Work(stop)));

    private async Task Work(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            ObjectKey key;
            try
            {
                key = await queue.Take(stop).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            RuntimeMetrics.Depth.WithLabels(name).Set(queue.Depth);
            long start = Stopwatch.GetTimestamp();
            string result = "ok";
            try
            {
                TimeSpan? again = await reconciler.Reconcile(key, stop).ConfigureAwait(false);
                queue.Forget(key);
                if (again is { } delay)
                    queue.AddAfter(key, delay);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                result = "stopped";
            }
            catch (ApiException e) when (e.IsConflict)
            {
                // Our copy was old; the watch will deliver the newer one.
                result = "conflict";
                queue.AddAfterFailure(key);
            }
            catch (Exception e)
            {
                result = "error";
                RuntimeMetrics.Errors.WithLabels(name).Inc();
                TimeSpan pause = queue.AddAfterFailure(key);
                bool expected = ConnectionTrouble.Is(e);
                log.LogWarning(
                    expected ? null : e,
                    "{Controller} {Key}: {Why}; again in {Pause:0.0} s",
                    name,
                    key,
                    e.Message,
                    pause.TotalSeconds
                );
            }
            finally
            {
                queue.Done(key);
                RuntimeMetrics.Duration.WithLabels(name).Observe(Stopwatch.GetElapsedTime(start).TotalSeconds);
                RuntimeMetrics.Total.WithLabels(name, result).Inc();
            }
        }
    }
}
