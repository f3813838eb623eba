using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>
/// The volume with the rest of a guest's memory is unmounted, fails, or dies: the guest waits for it, and never reads anything else.
/// </summary>
[Collection(Alone.Name)]
public class LostVolumeTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task A_guest_waits_for_a_volume_that_fails_and_goes_on_when_it_is_back(QemuVersion version, RamKind ram)
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(version, "q35", ram));
        await using var volume = await LoopVolume.OfAsync(pair.Snapshot, pair.Source.Folder);
        await using var agent = await InstantMachines.RunAsync(volume.Folder, pair.Target, InstantPair.Slowly);

        await volume.FailAsync();
        await AssertWaitsAsync(pair, agent);
        await volume.MendAsync();

        await AssertGoesOnByItselfAsync(pair, agent);
    }

    /// <summary>
    /// No process may have a file of the dead file system open, otherwise the kernel mounts that same dead one again. A snapshot put in its
    /// place meanwhile is of no use.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task A_volume_that_died_is_gone_on_with_when_it_is_mounted_anew(QemuVersion version, RamKind ram)
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(version, "q35", ram));
        var other = await Agent.CaptureAsync(pair.Source, "other");
        await using var volume = await LoopVolume.OfAsync(pair.Snapshot, pair.Source.Folder);
        await using var agent = await InstantMachines.RunAsync(volume.Folder, pair.Target, InstantPair.Slowly);

        volume.Die();
        await AssertWaitsAsync(pair, agent);
        volume.UnmountLazily();
        await agent.WaitForOutputAsync("its volume failed, and has not come back", InstantPair.Patience);
        await volume.PutInItsPlaceAsync(other.Output);
        await agent.WaitForOutputAsync("another snapshot is there now", InstantPair.Patience);
        Assert.DoesNotContain("\"summary\"", agent.StandardOutput, StringComparison.Ordinal);
        volume.UnmountLazily();
        await volume.MountAsync();

        await AssertGoesOnByItselfAsync(pair, agent);
    }

    /// <summary>At a rate at which the rest would take hours, so that no page arrives by chance.</summary>
    [SkippableFact]
    public async Task What_the_guest_waits_for_comes_first_when_the_volume_is_back()
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(QemuVersion.System, "q35", RamKind.Anonymous));
        await using var volume = await LoopVolume.OfAsync(pair.Snapshot, pair.Source.Folder);
        await using var agent = await InstantMachines.StartAsync(volume.Folder, pair.Target, "--bandwidth-limit=1Ki");
        await agent.WaitForOutputAsync("\"phase\":\"Running\"", InstantPair.Patience);

        await volume.FailAsync();
        await AssertWaitsAsync(pair, agent);
        await volume.MendAsync();

        await InstantMachines.AssertAllOfItIsRightAsync(pair.Target);
        Assert.False(agent.HasEnded, agent.StandardOutput);
    }

    [SkippableFact]
    public async Task A_volume_that_was_unmounted_is_read_to_the_end_by_who_has_it_open()
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(QemuVersion.System, "pc", RamKind.Anonymous));
        await using var volume = await LoopVolume.OfAsync(pair.Snapshot, pair.Source.Folder);
        await using var agent = await InstantMachines.RunAsync(volume.Folder, pair.Target, "--bandwidth-limit=20Mi");

        volume.UnmountLazily();
        Assert.Empty(Directory.EnumerateFileSystemEntries(volume.Folder));

        await pair.AssertEndsWellAsync(agent);
    }

    /// <summary>
    /// The process after a dead one finds no volume, says so, and changes nothing; once the volume is back, the next process continues.
    /// </summary>
    [SkippableFact]
    public async Task Without_the_volume_nobody_goes_on_and_with_it_the_next_one_does()
    {
        await using var pair = await InstantPair.MakeAsync(InstantMachines.Checking(QemuVersion.Unpacked10, "q35", RamKind.Anonymous));
        await using var volume = await LoopVolume.OfAsync(pair.Snapshot, pair.Source.Folder);
        await using (var killed = await InstantMachines.RunAsync(volume.Folder, pair.Target, InstantPair.Slowly, "--worker"))
        {
            volume.UnmountLazily();
            await killed.KillAsync();
        }

        var without = await RestoreOutcome.OfAsync(volume.Folder, pair.Target, "--mode=instant");
        Assert.Equal((3, "SnapshotNotFound"), (without.Process.ExitCode, without.Reason));
        Assert.Equal(2, InstantMachines.Left(pair.Target).Count());
        Assert.Equal("running", await pair.Target.Qmp.RunStateAsync());
        await volume.MountAsync();

        await pair.AssertIsTakenOverAsync(volume.Folder);
    }

    private static async Task AssertWaitsAsync(InstantPair pair, AgentProcess agent)
    {
        await agent.WaitForOutputAsync("\"problem\":\"the guest waits", InstantPair.Patience);
        await agent.WaitForOutputAsync("errno 5", InstantPair.Patience);
        Assert.Equal("running", await pair.Target.Qmp.RunStateAsync());
        Assert.DoesNotContain("\"summary\"", agent.StandardOutput, StringComparison.Ordinal);
    }

    private static async Task AssertGoesOnByItselfAsync(InstantPair pair, AgentProcess agent)
    {
        var outcome = await pair.AssertEndsWellAsync(agent);
        Assert.Contains(outcome.Progress, p => p.TryGetProperty("problem", out _) && p.GetProperty("percent").GetDouble() < 100);
        Assert.False(InstantMachines.InstantOf(outcome).GetProperty("takenOver").GetBoolean());
    }
}
