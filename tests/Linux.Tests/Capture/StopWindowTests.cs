using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>Summary and inspect report how the downtime is made up. For libvirt see LibvirtCaptureTests.</summary>
public class StopWindowTests
{
    [SkippableTheory]
    [InlineData("all", true)]
    [InlineData("none", false)]
    public async Task The_parts_of_the_downtime_are_told_and_are_all_of_it(string disks, bool cut)
    {
        await using var vm = await Requirements.StartAsync(
            DiskMachines.Writing(QemuVersion.Unpacked10, new TestDisk { Name = "vda" }) with
            {
                MemoryMiB = 128,
            }
        );

        var snapshot = await Agent.CaptureAsync(vm, "s", $"--disks={disks}", "--scratch", vm.Folder);

        AssertWhole(snapshot, cut);
        Assert.False(snapshot.Paused);
        var shown = await AgentProcess.RunAsync(TimeSpan.FromSeconds(60), "inspect", snapshot.Output);
        Assert.Matches(@"Downtime +[0-9.]+ (µs|ms|s) \(stop .+, disks .+, devices .+, protect .+, cont .+\)\n", shown.StandardOutput);
    }

    [SkippableFact]
    public async Task A_guest_that_was_paused_has_no_stop_window()
    {
        await using var vm = await Requirements.StartAsync(
            DiskMachines.Writing(QemuVersion.Unpacked10, new TestDisk { Name = "vda" }) with
            {
                MemoryMiB = 128,
            }
        );
        using (var qmp = await HarnessQmp.ConnectAsync(vm.QmpSocket, CancellationToken.None))
            await qmp.ExecuteAsync("stop");

        var snapshot = await Agent.CaptureAsync(vm, "s", "--disks=none");

        Assert.Equal((0, null, true), (snapshot.DowntimeMicroseconds, snapshot.StopWindow, snapshot.Paused));
    }

    /// <summary>
    /// All parts are present and their sum is the downtime; if the machine's disks are cut, each disk has taken some time.
    /// </summary>
    internal static void AssertWhole(CaptureNumbers snapshot, bool disks)
    {
        var parts = snapshot.StopWindow ?? throw new InvalidDataException($"{snapshot}");
        Assert.Equal(
            ["contMicroseconds", "devicesMicroseconds", "disksMicroseconds", "protectMicroseconds", "stopMicroseconds"],
            parts.Keys.Order(StringComparer.Ordinal)
        );
        Assert.Equal(snapshot.DowntimeMicroseconds, parts.Values.Sum());
        Assert.All(parts.Values, p => Assert.True(p >= 0, $"{snapshot}"));
        Assert.True(parts["devicesMicroseconds"] > 0 && parts["protectMicroseconds"] > 0, $"{snapshot}");
        Assert.Equal(disks, parts["stopMicroseconds"] + parts["disksMicroseconds"] > 0);
    }
}
