using Bgsnap.Engine.Capture;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Capture;

/// <summary>What the fault path does, in which order, and what it leaves to others.</summary>
public sealed class FaultServerTests
{
    private const int Cluster = GuestRam.ClusterSize,
        Granule = GuestRam.GranuleSize;

    [Fact]
    public void A_fault_in_the_window_is_read_proved_and_only_then_released()
    {
        using Core core = new();
        core.OpenWindow();
        core.Memory.Fault(3);
        core.RunUntil(() => core.Ram.State(3) == GuestRam.Done);
        Assert.Equal(["read 3+1", "prove 3+1", "unprotect 3+1"], core.Calls());
        Assert.Null(core.Pipeline.Failure);
    }

    [Fact]
    public void What_is_not_proved_is_neither_released_nor_kept()
    {
        using Core core = new();
        core.OpenWindow();
        core.Memory.Unproved = new CaptureFailedException("ProtectionLost", "gone");
        core.Memory.Fault(3);
        core.RunUntil(() => core.Pipeline.IsCancelled);
        Assert.Equal(["read 3+1", "prove 3+1"], core.Calls());
        Assert.Equal("ProtectionLost", Assert.IsType<CaptureFailedException>(core.Pipeline.Failure).Reason);
        Assert.Equal(GuestRam.Claimed, core.Ram.State(3));
    }

    /// <summary>
    /// QEMU continues a discard once the agent has read its message: the agent must judge the discard before it serves a fault that it read
    /// together with it.
    /// </summary>
    [Fact]
    public void A_discard_is_judged_before_the_faults_that_were_read_with_it()
    {
        using Core core = new();
        core.OpenWindow();
        core.Memory.Fault(3);
        core.Memory.Discard(20 * Granule, 4096);
        core.RunUntil(() => core.Pipeline.IsCancelled);
        Assert.Equal("MemoryDiscarded", Assert.IsType<CaptureFailedException>(core.Pipeline.Failure).Reason);
        Assert.Empty(core.Calls());
    }

    [Theory]
    [InlineData(RamKind.Anonymous, null)]
    [InlineData(RamKind.SharedMemory, "MemoryDiscarded")]
    [InlineData(RamKind.PrivateMemory, "MemoryDiscarded")]
    public void A_discard_of_what_is_copied_is_harmless_where_it_is_announced_first(RamKind kind, string? reason)
    {
        using Core core = new(kind);
        core.OpenWindow();
        core.Memory.Fault(3);
        core.RunUntil(() => core.Ram.State(3) == GuestRam.Done);
        core.Memory.Discard(3 * Granule, Granule);
        core.Memory.Fault(5);
        core.RunUntil(() => core.Ram.State(5) == GuestRam.Done || core.Pipeline.IsCancelled);
        Assert.Equal(reason, (core.Pipeline.Failure as CaptureFailedException)?.Reason);
    }

    /// <summary>The range is shorter than a granule, but it ends in the next one.</summary>
    [Fact]
    public void A_discard_across_an_edge_is_one_of_both_granules()
    {
        using Core core = new();
        core.OpenWindow();
        core.Memory.Fault(3);
        core.RunUntil(() => core.Ram.State(3) == GuestRam.Done);
        core.Memory.Discard(4 * Granule - 4096, 8192);
        core.RunUntil(() => core.Pipeline.IsCancelled);
        Assert.Equal("MemoryDiscarded", Assert.IsType<CaptureFailedException>(core.Pipeline.Failure).Reason);
    }

    /// <summary>The thread that copies a granule proves it itself.</summary>
    [Fact]
    public void A_discard_of_what_is_being_copied_or_never_was_is_left_to_the_proof()
    {
        using Core core = new();
        core.OpenWindow();
        Assert.True(core.Ram.TryClaim(7));
        core.Memory.Discard(7 * Granule, Granule);
        core.Memory.Discard(Cluster, Cluster); // absent
        core.Memory.Fault(5);
        core.RunUntil(() => core.Ram.State(5) == GuestRam.Done);
        Assert.Null(core.Pipeline.Failure);
    }

    [Fact]
    public void A_discard_before_the_window_is_to_be_protected_again_with_both_its_edges()
    {
        using Core core = new();
        core.Memory.Discard(4 * Granule - 4096, 8192);
        core.Memory.Fault(9);
        core.RunUntil(() => core.Notes.Count == 1);
        Assert.Equal([3L, 4, -1], [core.Ram.NextDiscarded(0), core.Ram.NextDiscarded(4), core.Ram.NextDiscarded(5)]);
        Assert.Equal(["unprotect 9+1"], core.Calls());
    }

    /// <summary>The kernel refuses as long as a discard is in progress: for more than ten thousand attempts on a busy host.</summary>
    [Fact]
    public void A_refusal_to_unprotect_passes_and_what_is_read_meanwhile_is_served()
    {
        using Core core = new();
        core.OpenWindow();
        core.Memory.Refusals = 50;
        // These faults arrive while the first one waits.
        core.Memory.WhileReading = () =>
        {
            core.Memory.WhileReading = null;
            core.Memory.Fault(5);
            core.Memory.Discard(Cluster, Cluster);
        };
        core.Memory.Fault(3);
        core.RunUntil(() => core.Ram.State(5) == GuestRam.Done);
        Assert.Null(core.Pipeline.Failure);
        Assert.Equal(["read 3+1", "prove 3+1", "unprotect 3+1", "read 5+1", "prove 5+1", "unprotect 5+1"], core.Calls());
    }

    [Fact]
    public void A_discard_that_is_read_while_the_kernel_refuses_is_judged_at_once()
    {
        using Core core = new();
        core.OpenWindow();
        core.Memory.Refusals = int.MaxValue;
        core.Memory.WhileReading = () => core.Memory.Discard(9 * Granule, Granule);
        core.Memory.Fault(3);
        core.RunUntil(() => core.Pipeline.IsCancelled);
        Assert.Equal("MemoryDiscarded", Assert.IsType<CaptureFailedException>(core.Pipeline.Failure).Reason);
    }

    /// <summary>A block of two clusters, the second absent, and a thread that serves it.</summary>
    private sealed class Core : IDisposable
    {
        private readonly CaptureProgress _progress = new();
        private readonly GranuleLedger _ledger;
        private readonly FaultServer _faults;
        private Thread? _thread;

        internal Core(RamKind kind = RamKind.Anonymous)
        {
            Ram = MemoryOfTests.OneBlock(2, kind);
            Ram.SetKind(0, ClusterKind.Small);
            _ledger = new GranuleLedger(64);
            Pipeline = new CapturePipeline(64 << 20, PageCompression.None, workers: 1);
            Release release = new(Pipeline, Ram, Memory, _ledger, _progress);
            _faults = new FaultServer(
                Pipeline,
                Ram,
                Memory,
                new Sweep(Ram),
                release,
                Notes,
                new Discards(Ram, protectsHoles: true),
                _progress
            );
        }

        internal MemoryOfTests Memory { get; } = new();
        internal ProtectionNotes Notes { get; } = new();
        internal GuestRam Ram { get; }
        internal CapturePipeline Pipeline { get; }

        internal void OpenWindow() => _faults.OpenWindow(_ => Ram.BeginWindow());

        internal void RunUntil(Func<bool> reached)
        {
            _thread ??= Pipeline.Start("faults", _faults.Run);
            Assert.True(SpinWait.SpinUntil(reached, TimeSpan.FromSeconds(30)), $"{Pipeline.Failure}");
        }

        /// <summary>The calls made, after waiting for the thread to end.</summary>
        internal List<string> Calls()
        {
            _faults.Stop();
            _thread?.Join();
            return Memory.Calls;
        }

        public void Dispose()
        {
            _ = Calls();
            Pipeline.Dispose();
            Ram.Dispose();
            _ledger.Dispose();
        }
    }
}
