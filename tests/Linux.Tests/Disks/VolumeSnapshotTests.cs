using System.Diagnostics;
using System.Text.Json;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>
/// <c>--disk-method volume-snapshot</c>: the agent holds the guest while another program, here <c>cp</c>, cuts its disks, and never for
/// longer than the limit.
/// </summary>
public class VolumeSnapshotTests
{
    private static readonly TestDisk[] Disks =
    [
        new() { Name = "vda" },
        new() { Name = "vdb" },
        new()
        {
            Name = "install",
            IsCdrom = true,
            Arguments = DiskArguments.Drive,
        },
    ];

    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task What_the_storage_copies_while_the_guest_is_held_is_of_the_instant_of_its_memory(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(version, Disks));
        for (var i = 0; i < 5; i++)
        {
            var verdict = await TakeAsync(vm, $"held{i}", late: false);
            Assert.True(verdict.Agrees, $"{i}: {verdict}");
            await DiskMachines.WritesOnAsync(vm, $"capture {i}");
        }
    }

    /// <summary>The negative control: without it, the other test proves nothing.</summary>
    [SkippableFact]
    public async Task What_it_copies_afterwards_is_not()
    {
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(QemuVersion.System, Disks));
        List<DiskVerdict> verdicts = [];
        // A single try may be lucky, without a write between the two moments.
        for (var i = 0; i < 5 && verdicts.TrueForAll(v => v.Agrees); i++)
            verdicts.Add(await TakeAsync(vm, $"late{i}", late: true));
        Assert.Contains(verdicts, v => !v.Agrees);
    }

    [SkippableFact]
    public async Task The_manifest_names_the_VolumeSnapshots()
    {
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(QemuVersion.System, Disks));
        await using var capture = await HeldCapture.StartAsync(vm, "named", "--max-downtime=20s");

        using var held = JsonDocument.Parse(await capture.HeldAsync());
        var disks = held
            .RootElement.GetProperty("heldDisks")
            .EnumerateArray()
            .ToDictionary(d => d.GetProperty("name").GetString()!, d => d.GetProperty("image").GetProperty("filename").GetString());
        Assert.Equal(["vda", "vdb"], disks.Keys.Order());
        Assert.Equal(vm.ImageOf("vdb"), disks["vdb"]);

        await capture.SayAsync("release vda=snap-a,vdb=snap-b");
        var (code, last) = await capture.EndAsync();

        Assert.True(code == 0, last);
        var kept = SnapshotDisks.Of(Path.Combine(vm.Folder, "named")).ToDictionary(d => d.Name);
        Assert.Equal(("volume-snapshot", null, null), (kept["vda"].Method, kept["vda"].File, kept["vda"].Note));
        Assert.Equal(("none", null), (kept["install"].Method, kept["install"].File));
        using var manifest = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(vm.Folder, "named", "snapshot.json")));
        Assert.Equal(
            ["install=", "vda=snap-a", "vdb=snap-b"],
            manifest
                .RootElement.GetProperty("disks")
                .EnumerateArray()
                .Select(d => $"{d.GetProperty("name")}={(d.TryGetProperty("volumeSnapshot", out var v) ? v.GetString() : null)}")
                .Order(StringComparer.Ordinal)
        );
        Assert.Equal("volume-snapshot", manifest.RootElement.GetProperty("capture").GetProperty("diskMethod").GetString());
    }

    [SkippableTheory]
    [InlineData("too slow", "DowntimeExceeded")]
    [InlineData("abort", "Cancelled")]
    [InlineData("end of input", "Cancelled")]
    [InlineData("SIGTERM", "Cancelled")]
    public async Task Without_a_release_the_guest_goes_on_and_nothing_is_kept(string how, string reason)
    {
        foreach (var version in Enum.GetValues<QemuVersion>())
        {
            await using var vm = await Requirements.StartAsync(DiskMachines.Writing(version, Disks));
            var graph = await BlockGraph.TakeAsync(vm);
            await using var capture = await HeldCapture.StartAsync(
                vm,
                "given-up",
                how == "too slow" ? "--max-downtime=1500ms" : "--max-downtime=30s"
            );
            await capture.HeldAsync();
            var began = Stopwatch.GetTimestamp();
            switch (how)
            {
                case "abort":
                    await capture.SayAsync("abort");
                    break;
                case "end of input":
                    capture.Hush();
                    break;
                case "SIGTERM":
                    capture.Signal(15);
                    break;
            }

            var (code, last) = await capture.EndAsync();

            Assert.NotEqual(0, code);
            Assert.Equal(reason, JsonDocument.Parse(last).RootElement.GetProperty("reason").GetString());
            Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 0, 20);
            // The agent prints a line every 100 ms, a busy host fewer: it held the guest to the limit, and did not give up at once.
            Assert.True(
                how != "too slow" || capture.Output.Split('\n').Count(l => l.Contains("\"Holding\"", StringComparison.Ordinal)) >= 3,
                capture.Output
            );
            await DiskMachines.WritesOnAsync(vm, how);
            Assert.False(Directory.Exists(Path.Combine(vm.Folder, "given-up")));
            await graph.AssertIsBackAsync(vm, how);
        }
    }

    /// <summary>All of the agent's processes die at once, as when their container is killed.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task The_guest_of_an_agent_that_is_killed_goes_on(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(version, Disks));
        await using var capture = await HeldCapture.StartAsync(vm, "killed", "--max-downtime=30s");
        await capture.HeldAsync();
        var worker = Directory
            .EnumerateDirectories("/proc")
            .Select(Path.GetFileName)
            .Where(n => int.TryParse(n, out _))
            .Single(n => File.Exists($"/proc/{n}/cmdline") && ParentOf(n!) == capture.Pid);

        capture.Signal(HarnessLibc.SigKill);
        HarnessLibc.Kill(int.Parse(worker!, System.Globalization.CultureInfo.InvariantCulture), HarnessLibc.SigKill);

        await DiskMachines.WritesOnAsync(vm, "a kill");
        // And nothing hinders the next capture.
        Assert.True((await TakeAsync(vm, "next", late: false)).Agrees);
    }

    private static async Task<DiskVerdict> TakeAsync(VirtualMachine vm, string name, bool late)
    {
        await using var capture = await HeldCapture.StartAsync(vm, name, "--max-downtime=20s");
        await capture.HeldAsync();
        if (!late)
        {
            // The guest stands still for as long as the storage takes.
            await vm.WaitForSilenceAsync(TimeSpan.FromMilliseconds(500));
        }

        List<string> images = late ? [] : await CopyAsync(vm, name);
        await capture.SayAsync("release vda=a,vdb=b");
        var (code, last) = await capture.EndAsync();
        Assert.True(code == 0, last);
        if (late)
            images = await CopyAsync(vm, name);
        return DiskScanner.Judge(SnapshotImage.FindDiskRecord(Path.Combine(vm.Folder, name)), images);
    }

    private static async Task<List<string>> CopyAsync(VirtualMachine vm, string name)
    {
        List<string> images = [];
        foreach (var disk in new[] { "vda", "vdb" })
        {
            var image = Path.Combine(vm.Folder, $"{name}.{disk}.copy");
            await Tool.RunAsync("cp", "--sparse=always", vm.ImageOf(disk), image);
            images.Add(image);
        }

        return images;
    }

    private static int ParentOf(string pid)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{pid}/stat");
            return int.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return -1;
        }
    }
}
