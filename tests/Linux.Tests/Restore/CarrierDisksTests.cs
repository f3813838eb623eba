using System.Diagnostics;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>
/// The task RestoreDisks writes a snapshot's disks into a carrier that mounts their claims; here a directory stands for the carrier's root.
/// </summary>
public sealed class CarrierDisksTests : IAsyncLifetime
{
    private static readonly VirtualMachineOptions Firmware = new() { MemoryMiB = 64, Guest = new FirmwareGuest() };
    private DiskSnapshot? _snapshot;
    private string _root = "";

    private DiskSnapshot Snapshot => _snapshot!;

    public async Task InitializeAsync()
    {
        if (!HarnessLibc.IsRoot || TestFiles.Missing(Firmware) is not null)
            return;
        _snapshot = await DiskSnapshot.TakeAsync(Firmware);
        _root = Directory.CreateDirectory(Path.Combine(_snapshot.Folder, "root")).FullName;
        Directory.CreateDirectory(Path.Combine(_root, "dev"));
        Directory.CreateDirectory(Path.Combine(_root, "claims", "system"));
        Directory.CreateDirectory(Path.Combine(_root, "claims", "data"));
    }

    public Task DisposeAsync()
    {
        _snapshot?.Dispose();
        return Task.CompletedTask;
    }

    [SkippableFact]
    public void Files_are_made_as_they_were_and_made_again_the_same()
    {
        Requirements.Need(Firmware);
        var data = Path.Combine(_root, "claims", "data", "disk.qcow2");
        File.WriteAllText(data, "what was there before");
        File.SetUnixFileMode(data, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);

        for (var again = 0; again < 2; again++)
        {
            var end = Restore(("system", "/claims/system/disk.img", "raw"), ("data", "/claims/data/disk.qcow2", "qcow2"));
            Assert.Equal((TaskPhase.Succeeded, 100), (end.Phase, end.Percent));
            Assert.Equal(Snapshot.System, File.ReadAllBytes(Path.Combine(_root, "claims", "system", "disk.img")));
            Assert.Equal(Snapshot.Data, Disks.Content(Snapshot.Folder, data, "qcow2"));
        }

        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead, File.GetUnixFileMode(data));
        Assert.Equal("107:108 640", Stat(Path.Combine(_root, "claims", "system", "disk.img")));
    }

    [SkippableFact]
    public void A_link_leads_nowhere_outside_and_is_no_image()
    {
        Requirements.Need(Firmware);
        var outside = Path.Combine(Snapshot.Folder, "outside");
        File.WriteAllText(outside, "precious");
        File.CreateSymbolicLink(Path.Combine(_root, "claims", "system", "disk.img"), outside);
        Assert.Equal("DiskNotWritten", Refused(("system", "/claims/system/disk.img", "raw")).Reason);
        Assert.Equal("precious", File.ReadAllText(outside));

        // The agent follows a link within the root: /claims/far is the root's own /claims/data.
        File.CreateSymbolicLink(Path.Combine(_root, "claims", "far"), "/../../claims/data");
        Restore(("system", "/claims/far/disk.img", "raw"));
        Assert.Equal(Snapshot.System, File.ReadAllBytes(Path.Combine(_root, "claims", "data", "disk.img")));
        Assert.Equal("BadTarget", Refused(("system", "/no/such/folder/disk.img", "raw")).Reason);
        Assert.Equal("BadTask", Refused(("system", "/claims/data/..", "raw")).Reason);
    }

    [SkippableFact]
    public void A_device_node_on_a_claim_is_refused_and_one_of_the_runtime_is_not()
    {
        Requirements.Need(Firmware);
        using SmallVolume claim = new(Path.Combine(_root, "claims", "own"), 1 << 20);
        Run("mknod", Path.Combine(claim.Folder, "disk.img"), "c", "1", "3");
        Assert.Equal("BadTarget", Refused(("system", "/claims/own/disk.img", "raw")).Reason);
        var loop = LoopDevice();
        try
        {
            var number = Number(loop);
            Run("mknod", Path.Combine(claim.Folder, "block"), "b", number.Major, number.Minor);
            Run("mknod", Path.Combine(_root, "dev", "block"), "b", number.Major, number.Minor);

            Assert.Equal("BadTarget", Refused(("system", "/claims/own/block", "raw")).Reason);
            Restore(("system", "/dev/block", "raw"));
            Assert.Equal(Snapshot.System, File.ReadAllBytes(loop)[..Snapshot.System.Length]);
        }
        finally
        {
            Run("losetup", "-d", loop);
        }
    }

    [SkippableFact]
    public void What_is_not_there_is_named_and_damage_is_found_before_anything_is_written()
    {
        Requirements.Need(Firmware);
        Assert.Contains("has no disk vdz", Refused(("vdz", "/claims/system/disk.img", "raw")).Message, StringComparison.Ordinal);
        Assert.Contains("read-only", Refused(("cd", "/claims/system/disk.img", "raw")).Message, StringComparison.Ordinal);
        using (var file = File.OpenHandle(Snapshot.FileOf("data"), FileMode.Open, FileAccess.Write))
            RandomAccess.Write(file, "damage"u8, RandomAccess.GetLength(file) - 100);

        Assert.Equal(
            "SnapshotCorrupt",
            Refused(("system", "/claims/system/disk.img", "raw"), ("data", "/claims/data/disk.img", "raw")).Reason
        );
        Assert.False(File.Exists(Path.Combine(_root, "claims", "system", "disk.img")));
    }

    [SkippableFact]
    public void A_full_claim_is_named()
    {
        Requirements.Need(Firmware);
        using SmallVolume claim = new(Path.Combine(_root, "claims", "own"), 4 << 20);
        var failure = Refused(("data", "/claims/own/disk.img", "raw"));
        Assert.Equal("TargetFull", failure.Reason);
        Assert.StartsWith("disk data: ", failure.Message, StringComparison.Ordinal);
    }

    private TaskFailure Refused(params (string Name, string Path, string Driver)[] disks) =>
        Assert.Throws<TaskFailure>(() => Restore(disks));

    private SnapshotTaskStatus Restore(params (string Name, string Path, string Driver)[] disks)
    {
        using var root = FileSyscalls.OpenAt(null, _root, FileSyscalls.O_RDONLY | FileSyscalls.O_DIRECTORY);
        SnapshotTask task = new()
        {
            Spec = new SnapshotTaskSpec
            {
                Action = TaskAction.RestoreDisks,
                Directory = "snapshot",
                Disks =
                [
                    .. disks.Select(d => new TaskDisk
                    {
                        Name = d.Name,
                        Path = d.Path,
                        Driver = d.Driver,
                    }),
                ],
            },
        };
        TaskProgress progress = new(new SnapshotTaskStatus(), _ => Task.CompletedTask);
        try
        {
            return RestoreDisksWork.Write(root, Snapshot.Directory, task, progress, CancellationToken.None);
        }
        finally
        {
            progress.DisposeAsync().AsTask().GetAwaiter().GetResult();
        }
    }

    private string LoopDevice()
    {
        var file = Path.Combine(Snapshot.Folder, "volume");
        using (var volume = File.OpenHandle(file, FileMode.CreateNew, FileAccess.Write))
            RandomAccess.SetLength(volume, 32 << 20);
        using var losetup = Process.Start(
            new ProcessStartInfo("losetup", ["-f", "--show", file]) { RedirectStandardOutput = true, RedirectStandardError = true }
        )!;
        var device = losetup.StandardOutput.ReadToEnd().Trim();
        losetup.WaitForExit();
        Skip.If(losetup.ExitCode != 0, $"no loop device: {losetup.StandardError.ReadToEnd()}");
        return device;
    }

    private static (string Major, string Minor) Number(string device)
    {
        var parts = File.ReadAllText($"/sys/block/{Path.GetFileName(device)}/dev").Trim().Split(':');
        return (parts[0], parts[1]);
    }

    private static string Stat(string path)
    {
        using var stat = Process.Start(new ProcessStartInfo("stat", ["-c", "%u:%g %a", path]) { RedirectStandardOutput = true })!;
        return stat.StandardOutput.ReadToEnd().Trim();
    }

    private static void Run(string program, params string[] arguments)
    {
        using var process = Process.Start(program, arguments);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }
}
