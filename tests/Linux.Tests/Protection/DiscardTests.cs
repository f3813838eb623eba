using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Protection;

/// <summary>
/// QEMU discards memory while the agent copies it: the snapshot shows the content at the point in time, or the capture fails. QEMU's own
/// main thread makes the discards, as for a balloon, but at the moment that the test chooses.
/// </summary>
public class DiscardTests
{
    private const ulong DontNeed = 4;
    private const long Madvise = 28;
    private const int DataMiB = 16;
    private const int ClusterBytes = 2 << 20;
    private const long DataAt = ClusterBytes;

    /// <summary>A sweep thread has claimed a range and has not read it yet; everything else is copied.</summary>
    [SkippableTheory]
    [InlineData(RamKind.Anonymous)]
    [InlineData(RamKind.Memfd)]
    public async Task What_is_discarded_between_claim_and_copy_fails_the_capture(RamKind ram)
    {
        var (outcome, differences) = await DiscardAsync(ram, "claimed", "");
        Assert.True(outcome.Process.ExitCode == 1, $"{outcome.Process}\n{differences}");
        Assert.Equal("MemoryDiscarded", outcome.Error?.Reason);
    }

    /// <summary>The negative control: without the proof, the snapshot contains zeroes and is called sound.</summary>
    [SkippableFact]
    public async Task Without_the_proof_it_reads_as_zeroes()
    {
        var (outcome, differences) = await DiscardAsync(RamKind.Anonymous, "claimed", "+skip:proof");
        Assert.True(outcome.Process.ExitCode == 0, outcome.Process.ToString());
        Assert.NotEqual("", differences);
    }

    /// <summary>The agent had the bytes in its buffer before.</summary>
    [SkippableFact]
    public async Task What_is_discarded_between_copy_and_proof_is_in_the_snapshot_or_there_is_none()
    {
        var (outcome, differences) = await DiscardAsync(RamKind.Anonymous, "read", "");
        Assert.True(
            outcome.Process.ExitCode == 0 ? differences == "" : outcome.Error?.Reason == "MemoryDiscarded",
            $"{outcome.Process}\n{differences}"
        );
    }

    /// <summary>A balloon inflates and deflates while captures are taken, one after the other.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task Under_a_balloon_that_moves_each_snapshot_is_right_or_is_none(QemuVersion version, RamKind ram)
    {
        var options = Restore.Instant.InstantMachines.Ballooning(version, ram, spareMiB: 24) with { Cpus = 2, MemoryMiB = 160 };
        options = options with { Guest = (LinuxGuest)options.Guest with { Writers = 1 } };
        await using var vm = await Requirements.StartAsync(options);
        await Machines.WarmUpAsync(vm);
        await vm.MoveSpareAsync("given");
        using CancellationTokenSource enough = new();
        var breathing = Task.Run(async () =>
        {
            for (int i = 0; !enough.IsCancellationRequested; i++)
            {
                await vm.Qmp.ExecuteAsync("balloon", new() { ["value"] = (long)(i % 2 == 0 ? 130 : 155) << 20 });
                await Task.Delay(150);
            }
        });
        try
        {
            for (int i = 0; i < 4; i++)
            {
                string dump = Path.Combine("/dev/shm", $"bgsnap-test-{Guid.NewGuid():N}");
                try
                {
                    var outcome = await Agent.TryCaptureAsync(vm, $"s{i}", Agent.DumpTo(dump), "--engine=agent", "--bandwidth-limit=300Mi");
                    if (outcome.Process.ExitCode == 0)
                        Assert.Equal("", SnapshotImage.DifferencesFromDump(outcome.Summary!.Output, dump));
                    else
                        // The dump may be slow.
                        Assert.True(outcome.Error?.Reason is "MemoryDiscarded" or "AgentDied", outcome.Process.ToString());
                }
                finally
                {
                    Directory.Delete(dump, recursive: true);
                }
            }
        }
        finally
        {
            await enough.CancelAsync();
            await breathing;
        }
        await Machines.AssertLivesAsync(vm);
    }

    /// <summary>
    /// The balloon has its former size again, so only QEMU's event shows the change, and the event comes when everything has been copied.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task Huge_pages_under_a_balloon_that_came_back_just_before_the_end_make_no_snapshot(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(
            Restore.Instant.InstantMachines.Ballooning(version, RamKind.Hugetlbfs) with
            {
                MemoryMiB = 160,
            }
        );
        await Machines.WarmUpAsync(vm);
        var point = Path.Combine(vm.Folder, "point");

        var capture = Agent.TryCaptureAsync(vm, "snapshot", Agent.Hook($"wait:unprotected:1:{point}"), "--engine=agent");
        while (!File.Exists(point) && !capture.IsCompleted)
            await Task.Delay(5);
        await Restore.Instant.InstantMachines.InflateAsync(vm, 152);
        await Restore.Instant.InstantMachines.InflateAsync(vm, 160);
        File.Delete(point);

        var outcome = await capture;
        Assert.True(outcome.Error?.Reason == "MemoryDiscarded", outcome.Process.ToString());
        await Machines.AssertLivesAsync(vm);
    }

    private static async Task<(CaptureOutcome Outcome, string Differences)> DiscardAsync(RamKind ram, string at, string also)
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Guest = new FirmwareGuest(),
                Machine = "q35",
                MemoryMiB = 64,
                Ram = ram,
            }
        );
        await vm.StopVcpusAsync();
        byte[] data = new byte[DataMiB << 20];
        new Random(1).NextBytes(data);
        long host;
        using (var memory = await vm.OpenMemoryAsync())
        {
            memory.Write(DataAt, data);
            host = memory.HostAddress;
        }
        string truth = await vm.DumpMemoryAsync();
        var point = Path.Combine(vm.Folder, "point");

        // At the second cluster that a thread claims: the first one belongs to the firmware.
        var capture = Agent.TryCaptureAsync(vm, "snapshot", Agent.Hook($"wait:{at}:2:{point}{also}"), "--engine=agent");
        await Task.WhenAny(capture, Task.Run(() => SpinWait.SpinUntil(() => File.Exists(point), TimeSpan.FromSeconds(120))));
        Assert.True(File.Exists(point), (capture.IsCompleted ? await capture : null)?.Process.ToString());
        // Meanwhile the other threads copy the rest.
        await Task.Delay(200);
        Discard(vm.Pid, (ulong)(host + DataAt), ClusterBytes);
        File.Delete(point);

        var outcome = await capture;
        return (outcome, outcome.Summary is { } s ? SnapshotImage.DifferencesFromMemory(s.Output, truth) : "");
    }

    private static void Discard(int pid, ulong address, int length)
    {
        using var process = CheckedProcess.Open(pid);
        RemoteThread.Hold(process, SyscallGadget.Find(process), thread =>
            Assert.Equal(0, thread.Call(Madvise, address, (ulong)length, DontNeed))
        );
    }
}
