using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Restore;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>The nodes between a target's device and its image, and what the image contains besides the disk.</summary>
public class TargetNodesTests
{
    /// <summary>libvirt puts a throttle filter between a device and its disk; the identical machine must be accepted as a target.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_filter_of_the_target_is_looked_through_and_what_its_image_loses_is_said(QemuVersion version)
    {
        VirtualMachineOptions machine = new()
        {
            Version = version,
            MemoryMiB = 64,
            Guest = new FirmwareGuest(),
        };
        using var snapshot = await DiskSnapshot.TakeAsync(machine, "none");
        var (system, data) = DiskRestoreTests.OtherImages(snapshot.Folder, "raw", "qcow2");
        Restore.Disks.Run("snapshot", "-c", "monday", data);
        Restore.Disks.Run("bitmap", "--add", data, "daily");
        var waiting = DiskRestoreTests.Waiting(version, system, "raw", data, "qcow2");
        await using var target = await VirtualMachine.StartAsync(
            waiting with
            {
                ExtraArguments =
                [
                    .. Restore.Disks.Drive("system", system, "raw"),
                    "-object",
                    "throttle-group,id=slow",
                    "-blockdev",
                    $"driver=file,filename={data},node-name=file-data",
                    "-blockdev",
                    "driver=qcow2,file=file-data,node-name=format-data",
                    "-blockdev",
                    "driver=throttle,file=format-data,node-name=slow-data,throttle-group=slow",
                    "-device",
                    "virtio-blk-pci,drive=slow-data,id=data",
                ],
            }
        );

        var outcome = await RestoreOutcome.OfAsync(snapshot.Directory, target);

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal(snapshot.Data, Restore.Disks.Content(snapshot.Folder, data, "qcow2"));
        var dropped = Assert.Single(outcome.Last.GetProperty("dropped").EnumerateArray()).GetString()!;
        Assert.All(["data", "monday", "daily"], word => Assert.Contains(word, dropped, StringComparison.Ordinal));
    }
}
