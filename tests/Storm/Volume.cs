using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>
/// The volume for a capture's output: a folder, a tmpfs that is soon full, or an ext4 on a loop device where each write waits for a slow
/// disk.
/// </summary>
internal sealed class Volume : IAsyncDisposable
{
    private const string BlkioRoot = "/sys/fs/cgroup/blkio";
    private const int SlowMiBPerSecond = 24;
    private string? _loop;
    private string? _group;

    private Volume(string folder) => Folder = folder;

    public string Folder { get; private set; }

    /// <summary>The command that precedes the agent's command line and moves the agent into the slow group.</summary>
    public IReadOnlyList<string> Starter =>
        _group is null ? [] : ["sh", "-c", "echo $$ > \"$0\" && exec \"$@\"", Path.Combine(_group, "cgroup.procs")];

    /// <summary>Creates the volume in a machine's folder, where a guard finds it if the storm is killed.</summary>
    public static async Task<Volume> MakeAsync(CapturePlan plan, string machine, string outputs)
    {
        if (plan.Volume == VolumeKind.Roomy || (plan.Volume == VolumeKind.Slow && !Directory.Exists(BlkioRoot)))
            return new Volume(outputs);
        Volume volume = new(Directory.CreateDirectory(LoopVolume.MountPoint(machine)).FullName);
        try
        {
            var size = plan.VolumeMiB.ToString(CultureInfo.InvariantCulture);
            if (plan.Volume == VolumeKind.Small)
                await Tool.RunAsync("mount", "-t", "tmpfs", "-o", $"size={size}M,mode=0777", "bgsnap-test", volume.Folder);
            else
                await volume.BeSlowAsync(machine, size);
            return volume;
        }
        catch
        {
            await volume.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (!Folder.EndsWith(Path.GetFileName(LoopVolume.MountPoint("")), StringComparison.Ordinal))
            return;
        HarnessLibc.Unmount(Folder);
        if (_loop is not null)
        {
            await Tool.TryAsync("losetup", "--detach", _loop);
            File.Delete(LinkIn(Path.GetDirectoryName(Folder)!));
            File.Delete(ImageIn(Path.GetDirectoryName(Folder)!));
        }

        if (_group is not null)
            RemoveGroup(_group);
        Directory.Delete(Folder);
    }

    /// <summary>Removes the groups of a killed storm.</summary>
    public static void RemoveGroupsOf(int pid)
    {
        if (!Directory.Exists(BlkioRoot))
            return;
        foreach (var group in Directory.EnumerateDirectories(BlkioRoot, GroupPrefix(pid) + "*"))
            RemoveGroup(group);
    }

    private static string GroupPrefix(int pid) => Invariant($"bgsnap-storm-{pid}-");

    private static string ImageIn(string machine) => Path.Combine(machine, "slow-volume.img");

    // The name ends like those of disks, so that a later run of the harness detaches the device too.
    private static string LinkIn(string machine) => Path.Combine(machine, "slow-volume.loop");

    private static void RemoveGroup(string group)
    {
        for (var attempt = 0; attempt < 50; attempt++)
        {
            try
            {
                Directory.Delete(group);
                return;
            }
            catch (IOException)
            {
                Thread.Sleep(20); // its last user is still exiting
            }
        }
    }

    private async Task BeSlowAsync(string machine, string size)
    {
        var image = ImageIn(machine);
        await Tool.RunAsync("truncate", "--size", size + "M", image);
        await Tool.RunAsync("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=0,nodiscard", image);
        _loop = (await Tool.RunAsync("losetup", "--find", "--show", image)).Trim();
        File.CreateSymbolicLink(LinkIn(machine), _loop);
        await Tool.RunAsync("mount", "-t", "ext4", "-o", "sync", _loop, Folder);
        _group = Path.Combine(BlkioRoot, GroupPrefix(Environment.ProcessId) + Path.GetFileName(machine));
        Directory.CreateDirectory(_group);
        var device = (await File.ReadAllTextAsync($"/sys/block/{Path.GetFileName(_loop)}/dev")).Trim();
        var limit = Path.Combine(_group, "blkio.throttle.write_bps_device");
        await File.WriteAllTextAsync(limit, Invariant($"{device} {SlowMiBPerSecond << 20}"));
    }
}
