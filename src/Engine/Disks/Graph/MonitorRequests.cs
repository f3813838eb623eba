using System.Collections.Concurrent;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>Steps that copying threads request from the thread that owns the monitor.</summary>
internal sealed class MonitorRequests
{
    private readonly ConcurrentQueue<(Action Step, TaskCompletionSource Done)> _open = new();

    /// <summary>Waits until the other thread has run the step.</summary>
    /// <exception cref="OperationCanceledException">The wait was cancelled; the step may still run.</exception>
    internal void Run(Action step, CancellationToken cancel)
    {
        TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        _open.Enqueue((step, done));
        done.Task.Wait(cancel);
    }

    /// <summary>Runs the requested steps on the thread that owns the monitor. A step that fails is this thread's failure.</summary>
    internal void Serve()
    {
        while (_open.TryDequeue(out (Action Step, TaskCompletionSource Done) request))
        {
            request.Step();
            request.Done.SetResult();
        }
    }
}
