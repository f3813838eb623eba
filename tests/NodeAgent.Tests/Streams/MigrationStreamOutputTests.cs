using System.IO.Pipes;
using Bgsnap.SnapshotFormat.Streams;
using Microsoft.Win32.SafeHandles;
using static Bgsnap.NodeAgent.Tests.Streams.StreamSamples;

namespace Bgsnap.NodeAgent.Tests.Streams;

/// <summary>Destinations that fail, block or disappear.</summary>
public class MigrationStreamOutputTests
{
    private static MemoryRam Ram { get; } = new MemoryRam().Add("pc.ram", MigrationStreamWriterTests.RandomRam(new Random(9), 4000));

    private static MigrationStreamWriter Writer(IRamSource? ram = null) => new(Machine, ram ?? Ram, DeviceState);

    [Fact]
    public void A_file_gets_what_a_stream_gets()
    {
        string path = Path.GetTempFileName();
        try
        {
            using (SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.Write))
                Writer().Write(file);
            Assert.Equal(Write(Ram), File.ReadAllBytes(path));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public async Task A_pipe_gets_what_a_stream_gets()
    {
        using var pipe = new AnonymousPipeServerStream(PipeDirection.Out);
        using var client = new AnonymousPipeClientStream(PipeDirection.In, pipe.ClientSafePipeHandle);
        var received = new MemoryStream();
        Task copying = Task.Run(() => client.CopyTo(received));
        using (var handle = new SafeFileHandle(pipe.SafePipeHandle.DangerousGetHandle(), ownsHandle: false))
            Writer().Write(handle);
        pipe.Dispose();
        await copying;
        Assert.Equal(Write(Ram), received.ToArray());
    }

    [Fact]
    public void A_full_device_is_named()
    {
        using SafeFileHandle full = File.OpenHandle("/dev/full", FileMode.Open, FileAccess.Write);
        var e = Assert.Throws<MigrationStreamException>(() => Writer().Write(full));
        Assert.Contains("no space is left", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_reader_that_went_away_is_named()
    {
        using var pipe = new AnonymousPipeServerStream(PipeDirection.Out);
        pipe.DisposeLocalCopyOfClientHandle();
        using var handle = new SafeFileHandle(pipe.SafePipeHandle.DangerousGetHandle(), ownsHandle: false);
        var e = Assert.Throws<MigrationStreamException>(() => Writer().Write(handle));
        Assert.Contains("its reader closed it", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_reader_that_goes_away_later_is_named_with_how_far_it_came()
    {
        using var pipe = new AnonymousPipeServerStream(PipeDirection.Out);
        using var client = new AnonymousPipeClientStream(PipeDirection.In, pipe.ClientSafePipeHandle);
        using var handle = new SafeFileHandle(pipe.SafePipeHandle.DangerousGetHandle(), ownsHandle: false);
        Task writing = Task.Run(() => Writer().Write(handle));
        client.ReadExactly(new byte[3 << 20]);
        client.Dispose();
        var e = await Assert.ThrowsAsync<MigrationStreamException>(() => writing);
        Assert.Contains("its reader closed it", e.Message, StringComparison.Ordinal);
        Assert.InRange(e.Offset, 3 << 20, 5 << 20);
    }

    [Fact]
    public async Task A_reader_that_stopped_reading_does_not_keep_a_cancellation_waiting()
    {
        using var pipe = new AnonymousPipeServerStream(PipeDirection.Out);
        using var client = new AnonymousPipeClientStream(PipeDirection.In, pipe.ClientSafePipeHandle);
        using var handle = new SafeFileHandle(pipe.SafePipeHandle.DangerousGetHandle(), ownsHandle: false);
        using var source = new CancellationTokenSource(100);
        Task writing = Task.Run(() => Writer().Write(handle, source.Token));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => writing.WaitAsync(TimeSpan.FromSeconds(20)));
    }

    [Fact]
    public void A_granule_that_cannot_be_read_ends_the_write_with_its_own_error()
    {
        var error = new InvalidDataException("granule 20 is damaged");
        MemoryRam ram = new MemoryRam { Failure = (20, error) }.Add("pc.ram", Ram.Memory[0]);
        Assert.Same(error, Assert.Throws<InvalidDataException>(() => Writer(ram).Write(Stream.Null)));
    }

    [Fact]
    public void A_cancelled_write_does_not_begin() =>
        Assert.ThrowsAny<OperationCanceledException>(() => Writer().Write(Stream.Null, new CancellationToken(canceled: true)));
}
