using System.Diagnostics;
using System.Text.RegularExpressions;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>
/// Whatever fails while disks are copied: the guest writes on and finds no error, the block graph is as before, no snapshot exists, and the
/// message names the remedy.
/// </summary>
public class FailureTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(180);

    /// <summary>The issue asks for a clean graph within this time of the agent's return.</summary>
    private static readonly TimeSpan CleanAgain = TimeSpan.FromSeconds(30);

    private static readonly string[] Slow = ["--bandwidth-limit=12Mi"];

    public static TheoryData<QemuVersion> Versions => [.. Enum.GetValues<QemuVersion>()];

    [SkippableTheory]
    [MemberData(nameof(Versions))]
    public async Task A_full_scratch_ends_the_capture(QemuVersion version)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);

        var outcome = await Agent.TryCaptureAsync(vm, "outputs/s", null, [.. Slow, "--engine=agent", "--scratch-limit=8Mi"]);

        Assert.True(outcome.Error is { Reason: "ScratchFull", ExitCode: 1 }, outcome.Process.ToString());
        Assert.Contains("--scratch", outcome.Error!.Message, StringComparison.Ordinal);
        await UnharmedAsync(vm, graph, "a full scratch");
    }

    /// <summary>
    /// QEMU 10 aborts when a device gets the node that it already has: the agent must not put back what it never changed.
    /// </summary>
    [SkippableTheory]
    [MemberData(nameof(Versions))]
    public async Task A_capture_that_ends_before_its_disks_are_cut_leaves_them_alone(QemuVersion version)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);

        var outcome = await Agent.TryCaptureAsync(vm, "outputs/s", Agent.Hook("deny:ptrace"), "--engine=agent");

        Assert.True(outcome.Error is { Reason: "EngineUnavailable" }, outcome.Process.ToString());
        await UnharmedAsync(vm, graph, "a capture that never stopped the guest");
    }

    [SkippableTheory]
    [MemberData(nameof(Versions))]
    public async Task A_target_that_fills_in_the_middle_of_a_disk_ends_the_capture(QemuVersion version)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        var target = Directory.CreateDirectory(Path.Combine(vm.Folder, "small")).FullName;
        await Tool.RunAsync("mount", "-t", "tmpfs", "-o", "size=20M", "bgsnap-test", target);
        try
        {
            // Memory goes to the same volume, whatever its size: the disk alone is larger than the volume.
            var outcome = await Agent.TryCaptureAsync(vm, "small/s", null, "--engine=agent", "--compression=zstd");

            Assert.True(outcome.Error is { Reason: "TargetFull" }, outcome.Process.ToString());
            await UnharmedAsync(vm, graph, "a full target");
            Assert.Empty(Directory.EnumerateFileSystemEntries(target));
        }
        finally
        {
            await Tool.RunAsync("umount", target);
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Versions))]
    public async Task A_cut_NBD_connection_ends_the_capture(QemuVersion version)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        await using var family = await CopyingAsync(vm, "--engine=agent");

        await vm.Qmp.ExecuteAsync("nbd-server-stop");

        var error = CaptureFamily.ErrorOf(await family.WaitAsync(Patience));
        Assert.Equal(("DiskReadFailed", 1), (error?.Reason, error?.ExitCode));
        await UnharmedAsync(vm, graph, "a cut NBD connection");
    }

    [SkippableTheory]
    [MemberData(nameof(Versions))]
    public async Task A_QEMU_that_dies_while_disks_are_copied_ends_the_capture(QemuVersion version)
    {
        await using var vm = await StartAsync(version);
        await using var family = await CopyingAsync(vm, "--engine=agent");

        await vm.KillAsync();

        var result = await family.WaitAsync(Patience);
        Assert.True(CaptureFamily.ErrorOf(result) is { ExitCode: 1 or 6 }, result.ToString());
        Assert.Empty(Directory.EnumerateFileSystemEntries(Path.Combine(vm.Folder, "outputs")));
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, false)]
    [InlineData(QemuVersion.System, true)]
    [InlineData(QemuVersion.Unpacked10, false)]
    [InlineData(QemuVersion.Unpacked10, true)]
    public async Task An_agent_that_is_killed_while_disks_are_copied_leaves_nothing(QemuVersion version, bool both)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        await using var family = await CopyingAsync(vm, "--engine=agent");

        if (both)
            family.Signal(HarnessLibc.SigKill);
        family.SignalWorker(HarnessLibc.SigKill);
        await family.WaitAsync(Patience);
        await DiskMachines.WritesOnAsync(vm, "the kill");

        // The parent cleans up; if it is dead too, the next capture of this QEMU does.
        if (both)
        {
            var next = await Agent.CaptureAsync(vm, "outputs/next");
            Directory.Delete(next.Output, recursive: true);
        }

        await UnharmedAsync(vm, graph, "a killed agent");
    }

    [SkippableTheory]
    [InlineData("nbd-noted")]
    [InlineData("nbd-listener-kept")]
    [InlineData("nbd-serves")]
    [InlineData("userfaultfd-device-kept")]
    [InlineData("stop-sent")]
    [InlineData("stopped")]
    [InlineData("protected")]
    [InlineData("released")]
    [InlineData("unprotected")]
    [InlineData("filter-found")]
    [InlineData("disk-found")]
    [InlineData("before-commit")]
    public async Task An_agent_that_dies_at_any_step_leaves_nothing(string point)
    {
        foreach (var version in Enum.GetValues<QemuVersion>())
        {
            await using var vm = await StartAsync(version, full: false);
            var graph = await BlockGraph.TakeAsync(vm);

            var outcome = await Agent.TryCaptureAsync(vm, "outputs/s", Agent.Hook($"kill:{point}"), "--engine=agent");

            Assert.True(outcome.Error is { Reason: "AgentDied" }, outcome.Process.ToString());
            await UnharmedAsync(vm, graph, $"{version}: a kill at {point}");
            await DiskMachines.CaptureAgreesAsync(vm, "outputs/next");
        }
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, "agent")]
    [InlineData(QemuVersion.Unpacked10, "agent")]
    [InlineData(QemuVersion.Unpacked10, "qemu")]
    public async Task A_capture_that_is_asked_to_end_leaves_nothing(QemuVersion version, string engine)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        await using var family = await CopyingAsync(vm, $"--engine={engine}");

        family.Signal(HarnessLibc.SigTerm);
        var began = Stopwatch.GetTimestamp();

        Assert.Equal(130, (await family.WaitAsync(Patience)).ExitCode);
        Assert.InRange(Stopwatch.GetElapsedTime(began), TimeSpan.Zero, CleanAgain);
        await UnharmedAsync(vm, graph, "SIGTERM", byQemu: engine == "qemu");
    }

    /// <summary>A machine with two disks; full ones take some seconds to copy at the rate of these tests.</summary>
    private static async Task<VirtualMachine> StartAsync(QemuVersion version, bool full = true)
    {
        var vm = await Requirements.StartAsync(
            DiskMachines.Writing(
                version,
                new TestDisk
                {
                    Name = "vda",
                    MiB = full ? 48 : 16,
                    IsFull = full,
                },
                new TestDisk { Name = "vdb", Format = DiskFormat.Qcow2 }
            )
        );
        Directory.CreateDirectory(Path.Combine(vm.Folder, "outputs"));
        return vm;
    }

    /// <summary>Starts a capture and waits until it copies disks.</summary>
    private static async Task<CaptureFamily> CopyingAsync(VirtualMachine vm, params IEnumerable<string> more)
    {
        var family = await CaptureFamily.StartAsync(
            null,
            ["--qmp", vm.QmpSocket, "--output", Path.Combine(vm.Folder, "outputs", "s"), .. Slow, .. more]
        );
        await family.FindWorkerAsync();
        // An export alone proves nothing: one guards the disk's size while the capture prepares. The total is known when copying starts.
        while (!Regex.IsMatch(family.Output, "\"diskTotalBytes\":[1-9]"))
        {
            Assert.True(!family.HasEnded && family.Elapsed < Patience, "No disk was copied.");
            await Task.Delay(20);
        }

        await Task.Delay(500);
        Assert.False(family.HasEnded, "The copy ended before it could be disturbed.");
        return family;
    }

    private static async Task UnharmedAsync(VirtualMachine vm, BlockGraph graph, string after, bool byQemu = false)
    {
        await DiskMachines.WritesOnAsync(vm, after);
        await graph.AssertIsBackAsync(vm, after, CleanAgain, byQemu);
        Assert.Empty(Directory.EnumerateFileSystemEntries(Path.Combine(vm.Folder, "outputs")));
    }
}
