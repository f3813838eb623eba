using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using AgentLibc = Bgsnap.Linux.Libc;

namespace Bgsnap.Linux.Tests.Protection;

/// <summary>
/// KSM merges equal pages, and the kernel loses their write protection: the agent checks for KSM before the capture and detects it during
/// one.
/// </summary>
[Collection(Alone.Name)]
public class SamepageMergingTests
{
    private const int EqualMiB = 32;
    private const long EqualAt = 64 << 20;

    /// <summary>The fault itself: writes to merged pages that were protected, without any notification.</summary>
    [SkippableFact]
    public unsafe void Pages_that_were_merged_under_protection_can_be_written_unannounced_and_the_proof_says_so()
    {
        Need();
        Requirements.NeedUserfaultfd();
        const int pages = 64,
            bytes = pages * OwnMemory.Page;
        using OwnMemory first = OwnMemory.Anonymous(OwnMemory.HugePage, OwnMemory.MADV_NOHUGEPAGE),
            second = OwnMemory.Anonymous(OwnMemory.HugePage, OwnMemory.MADV_NOHUGEPAGE);
        using var self = ProcessEntry.Open(Environment.ProcessId);
        using Pagemap pagemap = Pagemap.Open(self);
        foreach (OwnMemory m in (ReadOnlySpan<OwnMemory>)[first, second])
        {
            new Span<byte>(m.Start, bytes).Fill(0x5a);
            m.Register(OwnMemory.HugePage);
            Assert.True(m.Uffd.TryProtect(m.Address, OwnMemory.HugePage));
            Assert.Equal(0, AgentLibc.MAdvise(m.Start, bytes, OwnMemory.MADV_MERGEABLE));
        }
        using SamepageMergingSwitch merging = SamepageMergingSwitch.Take();
        SamepageMergingSwitch.Set(1);

        OwnMemory? torn = null;
        for (long end = Environment.TickCount64 + 30_000; torn is null && Environment.TickCount64 < end; Thread.Sleep(20))
            torn =
                First(pagemap, first, bytes) != bytes ? first
                : First(pagemap, second, bytes) != bytes ? second
                : null;
        SamepageMergingSwitch.Set(0);
        Skip.If(torn is null, "this kernel keeps the write protection of pages that it merges");

        long lost = First(pagemap, torn, bytes);
        Assert.Equal(LostPage.Writable, pagemap.Lost(torn.Address + (ulong)lost));
        torn.Start[lost] = 1; // would wait forever if the kernel reported it
        UffdMessage message;
        Assert.Equal(0, torn.Uffd.Read(&message, 1));
    }

    [SkippableFact]
    public async Task A_machine_whose_pages_may_be_merged_is_refused_by_both_engines_and_told_the_remedy()
    {
        Need();
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Guest = new FirmwareGuest(),
                Machine = "q35",
                MemoryMiB = 128,
            }
        );
        await using var other = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Guest = new FirmwareGuest(),
                Machine = "q35,mem-merge=off",
                MemoryMiB = 128,
            }
        );
        using SamepageMergingSwitch merging = SamepageMergingSwitch.Take();
        SamepageMergingSwitch.Set(1);

        foreach (string engine in (string[])["agent", "qemu"])
        {
            var refused = await Agent.TryCaptureAsync(vm, engine, null, $"--engine={engine}");
            Assert.True(refused.Process.ExitCode == 3, refused.Process.ToString());
            Assert.Equal("SamepageMerging", refused.Error?.Reason);
            Assert.Contains("mem-merge=off", refused.Error?.Message, StringComparison.Ordinal);
        }
        await Agent.CaptureAsync(other, "snapshot", "--engine=agent");
    }

    /// <summary>ksmd starts after the capture has checked.</summary>
    [SkippableFact]
    public async Task Merging_that_begins_during_a_capture_fails_it_and_merged_pages_can_be_captured_later()
    {
        Need();
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Guest = new FirmwareGuest(),
                Machine = "q35",
                MemoryMiB = 256,
            }
        );
        await vm.StopVcpusAsync();
        byte[] equal = new byte[1 << 20];
        Array.Fill(equal, (byte)0x5a);
        using (var memory = await vm.OpenMemoryAsync())
        {
            for (int i = 0; i < EqualMiB; i++)
                memory.Write(EqualAt + ((long)i << 20), equal);
        }
        using SamepageMergingSwitch merging = SamepageMergingSwitch.Take();
        var point = Path.Combine(vm.Folder, "point");
        var capture = Agent.TryCaptureAsync(
            vm,
            "torn",
            Agent.Hook($"wait:protected-ahead:1:{point}"),
            "--engine=agent",
            "--bandwidth-limit=3Mi"
        );
        await Task.WhenAny(capture, Task.Run(() => SpinWait.SpinUntil(() => File.Exists(point), TimeSpan.FromSeconds(30))));
        SamepageMergingSwitch.Set(1);
        File.Delete(point);

        var failed = await capture;
        SamepageMergingSwitch.Set(0);
        Assert.True(failed.Process.ExitCode == 1, failed.Process.ToString());
        Assert.Equal("ProtectionLost", failed.Error?.Reason);
        Assert.Equal("paused", await vm.Qmp.RunStateAsync());

        Assert.True(SamepageMergingSwitch.Merged > 0);
        var summary = await Agent.CaptureAsync(vm, "sound", "--engine=agent");
        Assert.Equal("", SnapshotImage.DifferencesFromMemory(summary.Output, await vm.DumpMemoryAsync()));
    }

    /// <summary>
    /// QEMU's engine does not prove single pages: the agent relies on the kernel's counters, even if ksmd is idle again at the end.
    /// </summary>
    [SkippableFact]
    public async Task Merging_that_comes_and_goes_during_a_capture_by_QEMU_fails_it()
    {
        Need();
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Version = QemuVersion.Unpacked10,
                Guest = new FirmwareGuest(),
                Machine = "q35",
                MemoryMiB = 128,
                Disks = [new TestDisk { Name = "vda" }],
            }
        );
        using SamepageMergingSwitch merging = SamepageMergingSwitch.Take();
        var point = Path.Combine(vm.Folder, "point");
        var capture = Agent.TryCaptureAsync(vm, "torn", Agent.Hook($"wait:stop-sent:1:{point}"), "--engine=qemu", "--disks=all");
        await Task.WhenAny(capture, Task.Run(() => SpinWait.SpinUntil(() => File.Exists(point), TimeSpan.FromSeconds(30))));
        var before = Qemu.Vm.SamepageMerging.Position;
        SamepageMergingSwitch.Set(1);
        Assert.True(SpinWait.SpinUntil(() => Qemu.Vm.SamepageMerging.Position != before, TimeSpan.FromSeconds(30)), "ksmd did nothing");
        SamepageMergingSwitch.Set(0);
        File.Delete(point);

        var failed = await capture;

        Assert.True(failed.Process.ExitCode == 1 && failed.Error?.Reason == "ProtectionLost", failed.Process.ToString());
        Assert.Equal("running", await vm.Qmp.RunStateAsync());
        await Agent.CaptureAsync(vm, "sound", "--engine=qemu", "--disks=all");
    }

    private static unsafe long First(Pagemap pagemap, OwnMemory m, int bytes) =>
        (long)(pagemap.FirstUnprotected(m.Address, m.Address + (ulong)bytes) - m.Address);

    private static void Need()
    {
        Requirements.NeedRoot();
        Skip.IfNot(SamepageMergingSwitch.Exists, "this kernel has no samepage merging");
    }
}
