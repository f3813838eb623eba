using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// What flows between the threads of a capture: free buffers → copied → encoded → file → free again; and the one place where a failure ends
/// the capture.
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
        // The compressors' output buffers count towards the memory limit.
        int outputs = compression == PageCompression.None ? 0 : workers * 2;
        Stage = new Stage(stageBytes - (long)outputs * Capture.Stage.BufferSize, ReadyStage);
        Outputs = outputs == 0 ? null : new Stage((long)outputs * Capture.Stage.BufferSize, granulesPerRun: Encoder.CompressedRun);
        Copied = new BufferQueue(Stage.Count);
        Encoded = new BufferQueue(Stage.Count);
        EncodedOutputs = new BufferQueue(Math.Max(Outputs?.Count ?? 0, 1));
    }

    internal Stage Stage { get; }

    /// <summary>Buffers in which compressed runs are built; null when nothing is compressed.</summary>
    internal Stage? Outputs { get; }

    /// <summary>Copied and released, but not encoded yet.</summary>
    internal BufferQueue Copied { get; }

    /// <summary>Buffers of <see cref="Stage"/> that are ready to be written.</summary>
    internal BufferQueue Encoded { get; }

    /// <summary>Buffers of <see cref="Outputs"/> that are ready to be written.</summary>
    internal BufferQueue EncodedOutputs { get; }

    internal bool IsCancelled => _cancelled;

    /// <summary>The first failure, or null.</summary>
    internal Exception? Failure => Volatile.Read(ref _failure);

    internal void HandToFile(Stage stage, int buffer) => (stage == Stage ? Encoded : EncodedOutputs).Add(buffer);

    /// <summary>Frees the guest. The thread that fails calls it, whatever the others wait for. It must not throw.</summary>
    internal Action? Free { get; private set; }

    /// <summary>Ends the capture and frees the guest; the first reason counts.</summary>
    internal void Fail(Exception reason)
    {
        Interlocked.CompareExchange(ref _failure, reason, null);
        // Set before Free is read: the thread that sets Free checks this afterwards.
        _cancelled = true;
        Fence();
        Free?.Invoke();
        Cancel();
    }

    /// <summary>Sets how the guest is freed, and frees it at once if the capture has already failed.</summary>
    internal void FreeBy(Action free)
    {
        Free = free;
        Fence();
        if (_cancelled)
            free();
    }

    // One thread fails, another sets Free: at least one of them sees what the other wrote.
    private void Fence() => _ = Interlocked.Increment(ref _fences);

    /// <summary>Throws the first failure in the form in which it is reported; does nothing if there was no failure.</summary>
    internal void ThrowIfFailed()
    {
        if (Failure is { } failure)
        {
            throw failure is CaptureFailedException or OperationCanceledException or LinuxException
                ? failure
                : new CaptureFailedException(Reasons.InternalError, failure.Message, failure);
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
    /// What the threads have allocated on the managed heap, known once they have ended. None of them should allocate: a garbage collection
    /// would stop them all.
    /// </summary>
    internal long HotPathAllocatedBytes => Volatile.Read(ref _allocated);

    /// <summary>Starts a thread of the capture. If it fails, the capture fails.</summary>
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
