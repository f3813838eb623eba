using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>
/// What flows between the threads of a capture: free buffers → copied → encoded → file → free again; and the one place
/// where a failure ends it.
/// </summary>
internal sealed class CapturePipeline : IDisposable
{
    private Exception? _failure;
    private long _allocated;
    private const long ReadyStage = 64L << 20;
    private volatile bool _cancelled;
    private int _fences;

    internal CapturePipeline(long stageBytes, PageCompression compression, int workers)
    {
        // Output buffers of the compressors are part of what was allowed.
        int outputs = compression == PageCompression.None ? 0 : workers * 2;
        Stage = new Stage(stageBytes - (long)outputs * Capture.Stage.BufferSize, ReadyStage);
        Outputs = outputs == 0 ? null : new Stage((long)outputs * Capture.Stage.BufferSize, granulesPerRun: Encoder.CompressedRun);
        Copied = new BufferQueue(Stage.Count);
        Encoded = new BufferQueue(Stage.Count);
        EncodedOutputs = new BufferQueue(Math.Max(Outputs?.Count ?? 0, 1));
    }

    internal Stage Stage { get; }

    /// <summary>Buffers that compressed runs are built in; null when nothing is compressed.</summary>
    internal Stage? Outputs { get; }

    /// <summary>Copied and released, not encoded yet.</summary>
    internal BufferQueue Copied { get; }

    /// <summary>Ready to be written, of <see cref="Stage"/>.</summary>
    internal BufferQueue Encoded { get; }

    /// <summary>Ready to be written, of <see cref="Outputs"/>.</summary>
    internal BufferQueue EncodedOutputs { get; }

    internal bool IsCancelled => _cancelled;

    /// <summary>The first failure, null while all is well.</summary>
    internal Exception? Failure => Volatile.Read(ref _failure);

    internal void HandToFile(Stage stage, int buffer) => (stage == Stage ? Encoded : EncodedOutputs).Add(buffer);

    /// <summary>Sets the guest free; called by the thread that fails, whatever the others wait for. It must not throw.</summary>
    internal Action? Free { get; private set; }

    /// <summary>Ends the capture and sets the guest free; the first reason counts.</summary>
    internal void Fail(Exception reason)
    {
        Interlocked.CompareExchange(ref _failure, reason, null);
        // Before Free is read: whoever sets that looks at this afterwards.
        _cancelled = true;
        Fence();
        Free?.Invoke();
        Cancel();
    }

    /// <summary>Says how the guest is set free; at once, if the capture has failed already.</summary>
    internal void FreeBy(Action free)
    {
        Free = free;
        Fence();
        if (_cancelled)
            free();
    }

    // Whoever fails and whoever sets Free: at least one of them sees what the other wrote.
    private void Fence() => _ = Interlocked.Increment(ref _fences);

    /// <summary>Throws the first failure, as it is to be reported; does nothing while all is well.</summary>
    internal void ThrowIfFailed()
    {
        if (Failure is { } failure)
        {
            throw failure is CaptureFailedException or OperationCanceledException or LinuxException
                ? failure
                : new CaptureFailedException("InternalError", failure.Message, failure);
        }
    }

    internal void Cancel()
    {
        _cancelled = true;
        Copied.Close();
        Encoded.Close();
        EncodedOutputs.Close();
    }

    /// <summary>
    /// What the threads have allocated on the managed heap, known when they have ended. None of them should: a collection would stop them
    /// all.
    /// </summary>
    internal long HotPathAllocatedBytes => Volatile.Read(ref _allocated);

    /// <summary>A thread of the capture: its failure is the capture's.</summary>
    internal Thread Start(string name, Action body, int priority = 0) =>
        Linux.AgentThread.Start(
            name,
            () =>
            {
                Linux.ThreadPriority.Raise(priority);
                long before = GC.GetAllocatedBytesForCurrentThread();
                body();
                Interlocked.Add(ref _allocated, GC.GetAllocatedBytesForCurrentThread() - before);
            },
            Fail
        );

    /// <inheritdoc/>
    public void Dispose()
    {
        Stage.Dispose();
        Outputs?.Dispose();
    }
}
