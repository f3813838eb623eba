using Bgsnap.Engine.Capture;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Capture;

/// <summary>
/// The parts of a stop window's time. The agent's own notes lie between one time far in the past and one far in the future.
/// </summary>
public sealed class StopWindowTimesTests
{
    [Fact]
    public void The_parts_follow_each_other_and_their_sum_is_the_whole()
    {
        long began = Clock.NowMicroseconds() - 1000;
        StopWindowTimes times = new();
        times.Answered(1, stop: 1, save: 3); // getfd
        times.Answered(2, stop: 1, save: 3); // stop
        times.Answered(3, stop: 1, save: 3); // a disk
        long now = Clock.NowMicroseconds();
        (times.DataAt, times.ProtectedAt, times.HeldAt) = (now + 3000, now + 10_000, now + 30_000);

        ManifestStopWindow parts = times.Between(began, now + 50_000)!;

        Assert.Equal((7000, 20_000), (parts.ProtectMicroseconds, parts.ContMicroseconds));
        Assert.InRange(parts.StopMicroseconds, 1000, now - began);
        Assert.InRange(parts.DisksMicroseconds, 20_000, 20_000 + (now - began));
        Assert.Equal(now + 50_000 - began, Sum(parts));
    }

    [Fact]
    public void Without_disks_stopping_is_the_devices()
    {
        long now = Clock.NowMicroseconds();
        StopWindowTimes times = new()
        {
            DataAt = now + 3000,
            ProtectedAt = now + 4000,
            HeldAt = now + 4000,
        };
        times.Answered(0, stop: -1, save: 0);

        Assert.Equal(new ManifestStopWindow(0, 0, 3000, 1000, 500), times.Between(now, now + 4500));
    }

    // QEMU resumes the guest before the agent reads the answer.
    [Fact]
    public void What_the_agent_sees_too_late_does_not_make_the_window_longer()
    {
        long now = Clock.NowMicroseconds();
        StopWindowTimes times = new()
        {
            DataAt = now - 4000,
            ProtectedAt = now - 3000,
            HeldAt = now - 3000,
        };
        times.Answered(3, stop: 0, save: 2);

        Assert.Equal(new ManifestStopWindow(2000, 0, 2000, 1000, 0), times.Between(now - 6000, now - 1000));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(0, 5)]
    [InlineData(5, 0)]
    public void A_guest_that_did_not_run_has_no_window(long stopped, long resumed) =>
        Assert.Null(new StopWindowTimes().Between(stopped, resumed));

    private static long Sum(ManifestStopWindow p) =>
        p.StopMicroseconds + p.DisksMicroseconds + p.DevicesMicroseconds + p.ProtectMicroseconds + p.ContMicroseconds;
}
