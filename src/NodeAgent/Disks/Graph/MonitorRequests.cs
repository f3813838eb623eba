using System.Collections.Concurrent;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>What copying threads ask of the thread that owns the monitor.</summary>
internal sealed class MonitorRequests
{
    private readonly ConcurrentQueue<(Action Step, TaskCompletionSource Done)> _open = new();

    /// <summary>Waits until the step was run by the other thread.</summary>
    /// <exception cref="OperationCanceledException">It was cancelled; the step may still be run.</exception>
    internal void Run(Action step, CancellationToken cancel)
    {
        TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        _open.Enqueue((step, done));
        done.Task.Wait(cancel);
    }

    /// <summary>Runs what was asked for, on the thread that owns the monitor. A step that fails is this thread's failure.</summary>
    internal void Serve()
    {
        while (_open.TryDequeue(out (Action Step, TaskCompletionSource Done) request))
        {
            request.Step();
            request.Done.SetResult();
        }
    }
}
