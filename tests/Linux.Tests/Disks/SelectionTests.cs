using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>The selection of disks to copy; the manifest records the disks that are not copied.</summary>
public class SelectionTests
{
    private static readonly TestDisk[] Disks =
    [
        new() { Name = "vda" },
        new() { Name = "vdb", Format = DiskFormat.Qcow2 },
        new()
        {
            Name = "licence",
            ReadOnly = true,
            Arguments = DiskArguments.Drive,
        },
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
    public async Task Read_only_disks_and_media_are_recorded_and_not_copied(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(version, Disks));

        var snapshot = await Agent.CaptureAsync(vm, "snapshot");
        var disks = SnapshotDisks.Of(snapshot.Output).ToDictionary(d => d.Name);

        Assert.Equal(["install", "licence", "vda", "vdb"], disks.Keys.Order());
        Assert.All([disks["vda"], disks["vdb"]], d =>
            Assert.Equal(($"disks/{d.Name}.qcow2", "qcow2", 16L << 20), (d.File, d.Format, d.VirtualSize))
        );
        Assert.All([disks["licence"], disks["install"]], d => Assert.Equal((null, "none", true), (d.File, d.Method, d.ReadOnly)));
        Assert.All([disks["licence"], disks["install"]], d => Assert.False(string.IsNullOrEmpty(d.Note)));
        Assert.True(disks["install"].Removable && !disks["licence"].Removable);
        Assert.Equal(
            ["vda.qcow2", "vdb.qcow2"],
            Directory.EnumerateFiles(Path.Combine(snapshot.Output, "disks")).Select(f => Path.GetFileName(f)).Order()
        );
        var verdict = await SnapshotDisks.JudgeAsync(snapshot.Output);
        Assert.True(verdict.Agrees, verdict.ToString());
    }

    [SkippableFact]
    public async Task Only_named_disks_are_copied_or_none()
    {
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(QemuVersion.System, Disks));
        var graph = await BlockGraph.TakeAsync(vm);

        var one = SnapshotDisks.Of((await Agent.CaptureAsync(vm, "one", "--disks=vdb")).Output);
        Assert.Equal(["vdb"], one.Where(d => d.File is not null).Select(d => d.Name));
        Assert.Contains("excluded", one.Single(d => d.Name == "vda").Note, StringComparison.Ordinal);

        var none = SnapshotDisks.Of((await Agent.CaptureAsync(vm, "none", "--disks=none")).Output);
        Assert.Equal(4, none.Count);
        Assert.All(none, d => Assert.Null(d.File));
        Assert.False(Directory.Exists(Path.Combine(vm.Folder, "none", "disks")));

        foreach (var (name, why) in ((string, string)[])[("vdz", "vda, vdb"), ("licence", "licence")])
        {
            var refused = await Agent.TryCaptureAsync(vm, "refused", null, $"--disks={name}");
            Assert.Equal(("DiskNotFound", 3), (refused.Error?.Reason, refused.Error?.ExitCode));
            Assert.Contains(why, refused.Error!.Message, StringComparison.Ordinal);
        }

        await DiskMachines.WritesOnAsync(vm, "all of them");
        await graph.AssertIsBackAsync(vm, "all of them");
    }
}
