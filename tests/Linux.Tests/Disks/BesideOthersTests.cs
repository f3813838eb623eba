using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>
/// Other programs work on the disks while the agent copies them. Their work succeeds, the VM can start again, the next capture works, and
/// the agent keeps no snapshot that they touched. docs/design/0020-disks-beside-others.md
/// </summary>
public class BesideOthersTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(180);
    private static readonly TimeSpan CleanAgain = TimeSpan.FromSeconds(30);
    private const string Job = "theirs";

    /// <summary>
    /// Once by the drive's name, which our nodes take over during a capture, and once by the node's name, which lies below all our nodes.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, false)]
    [InlineData(QemuVersion.System, true)]
    [InlineData(QemuVersion.Unpacked10, false)]
    [InlineData(QemuVersion.Unpacked10, true)]
    public async Task A_backup_of_somebody_else_ends_right_and_the_capture_is_given_up(QemuVersion version, bool byNode)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        var node = await NodeOfAsync(vm);
        await using var family = await CopyingAsync(vm);

        await BackUpAsync(vm, byNode ? node : "vda");

        var error = CaptureFamily.ErrorOf(await family.WaitAsync(Patience));
        Assert.Equal(("BlockJobActive", 1), (error?.Reason, error?.ExitCode));
        Assert.All(["vda", Job, "backup"], word => Assert.Contains(word, error!.Message, StringComparison.Ordinal));
        await AssertBackupIsRightAsync(vm);
        await UnharmedAsync(vm, graph, "somebody else's backup");
    }

    /// <summary>One backup begins between our preparations and the cut, and one inside the window.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, "protected-ahead")]
    [InlineData(QemuVersion.Unpacked10, "protected-ahead")]
    [InlineData(QemuVersion.Unpacked10, "before-commit")]
    public async Task A_backup_may_begin_at_any_moment(QemuVersion version, string point)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        await using var family = await WaitingAsync(vm, point);

        await BackUpAsync(vm, "vda");

        family.GoOn();
        var result = await family.Capture.WaitAsync(Patience);
        if (point == "before-commit")
            Assert.Equal(0, result.ExitCode);
        else
            Assert.Equal("BlockJobActive", CaptureFamily.ErrorOf(result)?.Reason);
        await AssertBackupIsRightAsync(vm);
        if (result.ExitCode == 0)
            Directory.Delete(Path.Combine(vm.Folder, "outputs", "s"), recursive: true);
        await UnharmedAsync(vm, graph, $"a backup that began at {point}");
    }

    /// <summary>The backup begins in the fraction of a millisecond between our look at the graph and our command.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, "filter-found", true)]
    [InlineData(QemuVersion.Unpacked10, "filter-found", true)]
    [InlineData(QemuVersion.System, "disk-found", true)]
    [InlineData(QemuVersion.Unpacked10, "disk-found", true)]
    [InlineData(QemuVersion.System, "disk-found", false)]
    [InlineData(QemuVersion.Unpacked10, "disk-found", false)]
    public async Task A_backup_that_begins_while_a_disk_is_put_back_is_right(QemuVersion version, string point, bool byNode)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        var node = await NodeOfAsync(vm);
        await using var family = await WaitingAsync(vm, point);

        await BackUpAsync(vm, byNode ? node : "vda");

        family.GoOn();
        var result = await family.Capture.WaitAsync(Patience);
        Assert.True(result.ExitCode == 0, result.ToString());
        Directory.Delete(Path.Combine(vm.Folder, "outputs", "s"), recursive: true);
        await AssertBackupIsRightAsync(vm);
        await UnharmedAsync(vm, graph, $"a backup that began at {point}");
    }

    /// <summary>
    /// QEMU writes the backing file's name into the new image itself: the VM must be able to start with that name, or the operation must
    /// fail.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task An_external_snapshot_never_names_anything_of_ours(QemuVersion version)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        await using var family = await CopyingAsync(vm);
        var overlay = Path.Combine(vm.Folder, "overlay.qcow2");

        var refused = await Assert.ThrowsAsync<QmpErrorException>(() =>
            vm.Qmp.ExecuteAsync("blockdev-snapshot-sync", new JsonObject { ["device"] = "vda", ["snapshot-file"] = overlay })
        );

        Assert.Contains("backing file", refused.Message, StringComparison.Ordinal);
        Assert.Equal(0, (await family.WaitAsync(Patience)).ExitCode);
        Directory.Delete(Path.Combine(vm.Folder, "outputs", "s"), recursive: true);
        await UnharmedAsync(vm, graph, "a refused external snapshot");
    }

    /// <summary>
    /// The new image exists already: by the drive's name QEMU inserts it above all our nodes, by the node's name below them.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, false)]
    [InlineData(QemuVersion.System, true)]
    [InlineData(QemuVersion.Unpacked10, false)]
    [InlineData(QemuVersion.Unpacked10, true)]
    public async Task An_external_snapshot_stays_and_later_captures_work(QemuVersion version, bool byNode)
    {
        await using var vm = await StartAsync(version);
        var node = await NodeOfAsync(vm);
        var overlay = Path.Combine(vm.Folder, "overlay.qcow2");
        await Tool.RunAsync("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", vm.ImageOf("vda"), "-F", "raw", overlay, $"{DiskMiB}M");
        await using var family = await CopyingAsync(vm);

        JsonObject arguments = new() { ["snapshot-file"] = overlay, ["mode"] = "existing" };
        if (byNode)
            (arguments["node-name"], arguments["snapshot-node-name"]) = (node, "overlay");
        else
            arguments["device"] = "vda";
        await vm.Qmp.ExecuteAsync("blockdev-snapshot-sync", arguments);

        var error = CaptureFamily.ErrorOf(await family.WaitAsync(Patience));
        Assert.Equal(("MachineChanged", 1), (error?.Reason, error?.ExitCode));
        Assert.Contains("vda", error!.Message, StringComparison.Ordinal);
        await DiskMachines.WritesOnAsync(vm, "the snapshot");
        await DiskMachines.CaptureAgreesAsync(vm, "outputs/next");
        await DiskMachines.CaptureAgreesAsync(vm, "outputs/another");
        var nodes = (await vm.Qmp.ExecuteAsync("query-named-block-nodes")).GetRawText();
        Assert.DoesNotContain("agent-filter", nodes, StringComparison.Ordinal);
        await vm.KillAsync();
        // The VM starts with the chain that QEMU has written: every image of it opens.
        await Tool.RunAsync("qemu-img", "convert", "-O", "raw", overlay, Path.Combine(vm.Folder, "whole.raw"));
    }

    /// <summary>
    /// A filter has the length that its disk had when the filter was created, and QEMU aborts when the guest writes beyond it. So QEMU must
    /// refuse to change the size meanwhile.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, "protected-ahead")]
    [InlineData(QemuVersion.Unpacked10, "protected-ahead")]
    [InlineData(QemuVersion.System, "unprotected")]
    [InlineData(QemuVersion.Unpacked10, "unprotected")]
    public async Task A_disk_keeps_its_size_during_a_capture(QemuVersion version, string point)
    {
        await using var vm = await StartAsync(version);
        var graph = await BlockGraph.TakeAsync(vm);
        await using var family = await WaitingAsync(vm, point);

        var refused = await Assert.ThrowsAsync<QmpErrorException>(() =>
            vm.Qmp.ExecuteAsync("block_resize", new JsonObject { ["device"] = "vda", ["size"] = 2 * DiskMiB << 20 })
        );

        Assert.Contains("resize", refused.Message, StringComparison.Ordinal);
        family.GoOn();
        Assert.Equal(0, (await family.Capture.WaitAsync(Patience)).ExitCode);
        Directory.Delete(Path.Combine(vm.Folder, "outputs", "s"), recursive: true);
        await UnharmedAsync(vm, graph, "a refused resize");
        await vm.Qmp.ExecuteAsync("block_resize", new JsonObject { ["device"] = "vda", ["size"] = 2 * DiskMiB << 20 });
    }

    private const int DiskMiB = 48;

    private static async Task<VirtualMachine> StartAsync(QemuVersion version)
    {
        var vm = await Requirements.StartAsync(
            DiskMachines.Writing(
                version,
                new TestDisk
                {
                    Name = "vda",
                    Arguments = DiskArguments.Drive,
                    MiB = DiskMiB,
                    IsFull = true,
                },
                new TestDisk { Name = "vdb", Format = DiskFormat.Qcow2 }
            )
        );
        Directory.CreateDirectory(Path.Combine(vm.Folder, "outputs"));
        return vm;
    }

    private static async Task<string> NodeOfAsync(VirtualMachine vm) =>
        (await vm.Qmp.ExecuteAsync("query-block"))
            .EnumerateArray()
            .Single(d => d.GetProperty("device").GetString() == "vda")
            .GetProperty("inserted")
            .GetProperty("node-name")
            .GetString()!;

    /// <summary>Begins a slow backup. The guest is stopped meanwhile, so that the image shows what the backup must contain.</summary>
    private static async Task BackUpAsync(VirtualMachine vm, string device)
    {
        await vm.StopVcpusAsync();
        File.Copy(vm.ImageOf("vda"), Expected(vm));
        await vm.Qmp.ExecuteAsync(
            "drive-backup",
            new JsonObject
            {
                ["job-id"] = Job,
                ["device"] = device,
                ["target"] = Backup(vm),
                ["format"] = "raw",
                ["sync"] = "full",
                ["speed"] = 4 << 20,
            }
        );
        await vm.ContinueVcpusAsync();
    }

    private static async Task AssertBackupIsRightAsync(VirtualMachine vm)
    {
        await DiskMachines.WritesOnAsync(vm, "the capture beside a backup");
        Assert.Contains(Job, (await vm.Qmp.ExecuteAsync("query-block-jobs")).GetRawText(), StringComparison.Ordinal);
        await vm.Qmp.ExecuteAsync("block-job-set-speed", new JsonObject { ["device"] = Job, ["speed"] = 0 });
        var end = await vm.Qmp.WaitForEventAsync("BLOCK_JOB_COMPLETED", Patience);
        Assert.False(end.Data.TryGetProperty("error", out var error), error.ToString());
        await Tool.RunAsync("qemu-img", "compare", "-f", "raw", "-F", "raw", Expected(vm), Backup(vm));
    }

    private static string Expected(VirtualMachine vm) => Path.Combine(vm.Folder, "expected.raw");

    private static string Backup(VirtualMachine vm) => Path.Combine(vm.Folder, "backup.raw");

    private static async Task<CaptureFamily> CopyingAsync(VirtualMachine vm)
    {
        var family = await CaptureFamily.StartAsync(
            null,
            ["--qmp", vm.QmpSocket, "--output", Path.Combine(vm.Folder, "outputs", "s"), "--bandwidth-limit=12Mi", "--engine=agent"]
        );
        await family.FindWorkerAsync();
        while (!(await vm.Qmp.ExecuteAsync("query-block-exports")).GetRawText().Contains("agent-export", StringComparison.Ordinal))
        {
            Assert.True(!family.HasEnded && family.Elapsed < Patience, "Nothing was exported.");
            await Task.Delay(20);
        }

        await Task.Delay(500);
        Assert.False(family.HasEnded, "The copy ended before it could be disturbed.");
        return family;
    }

    /// <summary>Starts a capture that waits at a hook point.</summary>
    private static async Task<WaitingCapture> WaitingAsync(VirtualMachine vm, string point)
    {
        var sign = Path.Combine(vm.Folder, "waits");
        var family = await CaptureFamily.StartAsync(
            $"wait:{point}:1:{sign}",
            ["--qmp", vm.QmpSocket, "--output", Path.Combine(vm.Folder, "outputs", "s"), "--engine=agent"]
        );
        while (!File.Exists(sign))
        {
            Assert.True(!family.HasEnded && family.Elapsed < Patience, $"The capture did not come to {point}.");
            await Task.Delay(5);
        }

        return new WaitingCapture(family, sign);
    }

    private sealed record WaitingCapture(CaptureFamily Capture, string Sign) : IAsyncDisposable
    {
        public void GoOn() => File.Delete(Sign);

        public ValueTask DisposeAsync() => Capture.DisposeAsync();
    }

    /// <summary>Asserts that the guest writes on, that another capture is correct, and that QEMU's block layer is as before.</summary>
    private static async Task UnharmedAsync(VirtualMachine vm, BlockGraph graph, string after)
    {
        await DiskMachines.WritesOnAsync(vm, after);
        await DiskMachines.CaptureAgreesAsync(vm, "outputs/next");
        await graph.AssertIsBackAsync(vm, after, CleanAgain);
        Assert.Empty(Directory.EnumerateFileSystemEntries(Path.Combine(vm.Folder, "outputs")));
    }
}
