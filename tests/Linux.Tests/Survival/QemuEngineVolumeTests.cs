using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>
/// The output's volume hangs while QEMU's own engine captures: before the first page, when the agent holds the guest for its disks, and
/// after it, when the guest waits for pages that QEMU has not sent yet.
/// </summary>
public class QemuEngineVolumeTests
{
    /// <summary>The longest downtime and one second, and what a busy host adds. It was longer than this before.</summary>
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan SlowestEnd = TimeSpan.FromSeconds(60);

    [SkippableTheory]
    [InlineData("stop-sent")]
    [InlineData("disks-begin")]
    public async Task A_volume_that_hangs_holds_no_guest(string point)
    {
        await using var patient = await Patient.AdmitAsync(QemuVersion.Unpacked10, disk: true);
        await using var volume = await HangingVolume.CreateAsync(patient.Machine.Folder, 400);
        await using var gate = new HookGate(patient, point);
        await using var family = await CaptureFamily.StartAsync(
            gate.Hook,
            "--qmp",
            patient.Machine.QmpSocket,
            "--engine",
            "qemu",
            "--disks",
            "all",
            "--scratch",
            patient.Machine.Folder,
            "--output",
            Path.Combine(volume.Folder, "s"),
            "--max-downtime",
            "1s"
        );
        await gate.ReachedAsync(family);
        await volume.HangAsync();
        try
        {
            var began = Stopwatch.GetTimestamp();
            await gate.DisposeAsync();

            await patient.CountsOnAsync("the volume hangs", Limit);
            await patient.Machine.WaitForMoreTicksAsync(5);
            Assert.True(Stopwatch.GetElapsedTime(began) < Limit, $"{Stopwatch.GetElapsedTime(began)}\n{family.Output}");
            while (!family.Output.Contains("\"type\":\"error\"", StringComparison.Ordinal))
            {
                Assert.True(Stopwatch.GetElapsedTime(began) < SlowestEnd, family.Output);
                await Task.Delay(20);
            }
        }
        finally
        {
            // Before anything waits for the sleeping process to end.
            await volume.GoOnAsync();
        }

        var result = await family.WaitAsync(SlowestEnd);
        Assert.True(result.ExitCode == 1 && CaptureFamily.ErrorOf(result)?.Reason == "TargetTooSlow", result.ToString());
        // QEMU itself has opened /dev/userfaultfd for its snapshot, and keeps it.
        Assert.False(Directory.Exists(Path.Combine(volume.Folder, "s")));
        await patient.CaptureWellAsync();
        await patient.CountsOnAsync("the next capture", Limit);
    }
}
