using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>The volume that a guest's memory still lies on is unmounted, or fails: the guest waits for it, and never reads anything else.</summary>
public class LostVolumeTests
{
    private const int Pages = 3 * 24 * 256;
    private const string Slowly = "--bandwidth-limit=5Mi";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task A_guest_waits_for_a_volume_that_fails_and_goes_on_when_it_is_back(QemuVersion version, RamKind ram)
    {
        var options = InstantMachines.Checking(version, "q35", ram);
        await using var source = await Requirements.StartAsync(options);
        await using var volume = await LoopVolume.OfAsync(await InstantMachines.SnapshotAsync(source), source.Folder);
        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        await using var agent = await StartAsync(volume, target);
        await agent.WaitForOutputAsync("\"phase\":\"Running\"", Patience);

        await volume.FailAsync();
        await agent.WaitForOutputAsync("\"problem\":\"the guest waits", Patience);
        await agent.WaitForOutputAsync("errno 5", Patience);
        Assert.Equal("running", await target.Qmp.RunStateAsync());
        Assert.DoesNotContain("\"summary\"", agent.StandardOutput, StringComparison.Ordinal);
        await volume.MendAsync();
        var outcome = RestoreOutcome.Parse(await agent.WaitAsync(Patience));

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Contains(outcome.Progress, p => p.TryGetProperty("problem", out _) && p.GetProperty("percent").GetDouble() < 100);
        Assert.False(InstantMachines.InstantOf(outcome).GetProperty("takenOver").GetBoolean());
        InstantMachines.AssertNothingIsLeft(target);
        await InstantMachines.AssertAllOfItIsRightAsync(target, Pages);
    }

    [SkippableFact]
    public async Task A_volume_that_was_unmounted_is_read_to_the_end_by_who_has_it_open()
    {
        var options = InstantMachines.Checking(QemuVersion.System, "pc", RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(options);
        await using var volume = await LoopVolume.OfAsync(await InstantMachines.SnapshotAsync(source), source.Folder);
        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        await using var agent = await StartAsync(volume, target, "--bandwidth-limit=20Mi");
        await agent.WaitForOutputAsync("\"phase\":\"Running\"", Patience);

        volume.UnmountLazily();
        Assert.Empty(Directory.EnumerateFileSystemEntries(volume.Folder));
        var outcome = RestoreOutcome.Parse(await agent.WaitAsync(Patience));

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        InstantMachines.AssertNothingIsLeft(target);
        await InstantMachines.AssertAllOfItIsRightAsync(target, Pages);
    }

    /// <summary>Who comes after one that died finds no volume, says so, and changes nothing; with the volume back the next goes on.</summary>
    [SkippableFact]
    public async Task Without_the_volume_nobody_goes_on_and_with_it_the_next_one_does()
    {
        var options = InstantMachines.Checking(QemuVersion.Unpacked10, "q35", RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(options);
        await using var volume = await LoopVolume.OfAsync(await InstantMachines.SnapshotAsync(source), source.Folder);
        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
        await using (var killed = await StartAsync(volume, target, Slowly, "--worker"))
        {
            await killed.WaitForOutputAsync("\"phase\":\"Running\"", Patience);
            volume.UnmountLazily();
            await killed.KillAsync();
        }

        var without = await RestoreOutcome.OfAsync(volume.Folder, target, "--mode=instant");
        Assert.Equal((3, "SnapshotNotFound"), (without.Process.ExitCode, without.Reason));
        Assert.Equal(2, InstantMachines.Left(target).Count());
        Assert.Equal("running", await target.Qmp.RunStateAsync());
        await volume.MountAsync();
        var outcome = await InstantMachines.RestoreAsync(volume.Folder, target);

        Assert.True(InstantMachines.InstantOf(outcome).GetProperty("takenOver").GetBoolean(), outcome.ToString());
        InstantMachines.AssertNothingIsLeft(target);
        await InstantMachines.AssertAllOfItIsRightAsync(target, Pages);
    }

    private static Task<AgentProcess> StartAsync(LoopVolume volume, VirtualMachine target, params IEnumerable<string> options) =>
        AgentProcess.StartAsync(["restore", volume.Folder, "--qmp", target.QmpSocket, "--mode=instant", "--json", .. options.DefaultIfEmpty(Slowly)]);
}
