using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>An agent dies when its snapshot has its name, or nearly so: what is kept, what is said, and what the next one does.</summary>
public class PublishedTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_death_after_the_guest_was_left_stopped_keeps_the_snapshot_and_says_so(QemuVersion version)
    {
        await using var patient = await Patient.AdmitAsync(version);
        var output = patient.NewOutput();

        var result = await patient.CaptureAsync("kill:kept", output, "--after", "stop");

        var error = CaptureFamily.ErrorOf(result);
        Assert.True(error is { Reason: "AgentDied", ExitCode: 1 }, result.ToString());
        Assert.Contains("the snapshot is complete and was kept, and the guest stays stopped", error!.Message, StringComparison.Ordinal);
        Assert.Contains("its state is 'paused'", error.Message, StringComparison.Ordinal);
        Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(output).IsSound);
        Assert.Equal("paused", await patient.Machine.Qmp.RunStateAsync());
        await GoesOnAsync(patient, output);
    }

    [SkippableFact]
    public async Task A_guest_that_its_user_resumed_meanwhile_is_not_said_to_stay_stopped()
    {
        await using var patient = await Patient.AdmitAsync();
        await using var gate = new HookGate(patient, "kept");
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(gate.Hook, output, "--after", "stop");
        await gate.ReachedAsync(family);
        await patient.Machine.ContinueVcpusAsync();

        family.SignalWorker(HarnessLibc.SigKill);
        var result = await family.WaitAsync(Patient.Patience);

        var error = CaptureFamily.ErrorOf(result);
        Assert.True(error?.Reason == "AgentDied", result.ToString());
        Assert.Contains("the guest runs", error!.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("stays stopped", error.Message, StringComparison.Ordinal);
        await patient.CountsOnAsync("its user resumed it", Patient.TickLimit);
        // It is whole, and the user's own doing is no reason to take it away.
        Assert.Contains("was kept", error.Message, StringComparison.Ordinal);
        Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(output).IsSound);
        Directory.Delete(output, recursive: true);
        await patient.NothingIsLeftAsync("a death after the end");
    }

    /// <summary>Nobody is left to say anything: the snapshot is there, the guest is stopped, and the next agent changes neither.</summary>
    [SkippableFact]
    public async Task A_death_of_both_after_the_guest_was_left_stopped_leaves_both_as_they_are()
    {
        await using var patient = await Patient.AdmitAsync();
        var output = patient.NewOutput();
        await DieTogetherAsync(patient, output, "kept");

        var again = await patient.CaptureAsync(null, output, "--after", "stop");

        Assert.True(CaptureFamily.ErrorOf(again) is { Reason: "OutputExists" }, again.ToString());
        Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(output).IsSound);
        Assert.Equal("paused", await patient.Machine.Qmp.RunStateAsync());
        await GoesOnAsync(patient, output);
    }

    /// <summary>The note in QEMU says that the capture did not end well: the next agent resumes the guest, whatever it then does.</summary>
    [SkippableFact]
    public async Task A_death_of_both_between_the_name_and_the_guest_resumes_the_guest()
    {
        await using var patient = await Patient.AdmitAsync();
        var output = patient.NewOutput();
        await DieTogetherAsync(patient, output, "committed");
        Assert.Equal("paused", await patient.Machine.Qmp.RunStateAsync());

        var again = await patient.CaptureAsync(null, output, "--after", "stop");

        Assert.True(CaptureFamily.ErrorOf(again) is { Reason: "OutputExists" }, again.ToString());
        Assert.Contains("the guest runs", CaptureFamily.ErrorOf(again)!.Message, StringComparison.Ordinal);
        await patient.CountsOnAsync("the next capture", Patient.TickLimit);
        // It is whole, and of one instant.
        Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(output).IsSound);
        Directory.Delete(output, recursive: true);
        await patient.NothingIsLeftAsync("a death of both");
    }

    /// <summary>
    /// Both die while the guest is stopped for its snapshot. Its user resumes it, and later pauses it: that pause is the user's, and the
    /// next agent must not take it for the dead one's.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_pause_after_the_users_own_resume_is_kept_although_the_dead_agents_note_is_there(QemuVersion version)
    {
        await using var patient = await Patient.AdmitAsync(version);
        var output = patient.NewOutput();
        await DieTogetherAsync(patient, output, "unprotected");
        Assert.Equal("paused", await patient.Machine.Qmp.RunStateAsync());
        await patient.Machine.ContinueVcpusAsync();
        await patient.CountsOnAsync("its user resumed it", Patient.TickLimit);
        await Task.Delay(500);
        await patient.Machine.StopVcpusAsync();

        var next = await patient.CaptureAsync(null, patient.NewOutput());

        Assert.True(next.ExitCode == 0, next.ToString());
        Assert.Equal("paused", await patient.Machine.Qmp.RunStateAsync());
        await patient.Machine.ContinueVcpusAsync();
        await patient.CountsOnAsync("its user resumed it again", Patient.TickLimit);
    }

    /// <summary>The same death without the user: the guest was stopped by the agent alone.</summary>
    [SkippableFact]
    public async Task A_death_of_both_while_the_guest_is_stopped_resumes_the_guest_however_late()
    {
        await using var patient = await Patient.AdmitAsync();
        await DieTogetherAsync(patient, patient.NewOutput(), "unprotected");
        await Task.Delay(2000);

        var next = await patient.CaptureAsync(null, patient.NewOutput());

        Assert.True(next.ExitCode == 0, next.ToString());
        await patient.CountsOnAsync("the next capture", Patient.TickLimit);
    }

    /// <summary>A machine whose first attempt fails: the device state is too small to hold the guest.</summary>
    [SkippableFact]
    public async Task The_snapshot_of_a_second_attempt_is_taken_away_like_that_of_a_first()
    {
        await using var vm = await Requirements.StartAsync(
            new VirtualMachineOptions
            {
                Version = QemuVersion.Unpacked10,
                Machine = "microvm",
                MemoryMiB = 64,
                Guest = new FirmwareGuest(),
            }
        );

        var outcome = await Agent.TryCaptureAsync(vm, "s", Agent.Hook("kill:committed"), "--engine=agent");

        Assert.True(outcome.Error?.Reason == "AgentDied", outcome.Process.ToString());
        Assert.Contains("No snapshot was kept", outcome.Error.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(vm.Folder, "s")));
        Assert.Equal("running", await vm.Qmp.RunStateAsync());
    }

    /// <summary>Two captures of two machines with one output: the one that fails leaves the other's snapshot alone.</summary>
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_snapshot_of_another_capture_with_the_same_output_is_kept(bool dies)
    {
        await using var patient = await Patient.AdmitAsync();
        await using var other = await Requirements.StartAsync(Machines.Counting(QemuVersion.Unpacked10, "pc", RamKind.Anonymous));
        await using var gate = new HookGate(patient, "before-commit");
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(gate.Hook, output);
        await gate.ReachedAsync(family);
        // It must have said which snapshot is its own.
        await Task.Delay(500);
        var published = await Agent.TryCaptureAsync(other, output, null);
        Assert.True(published.Process.ExitCode == 0, published.Process.ToString());
        var manifest = await File.ReadAllBytesAsync(Path.Combine(output, "snapshot.json"));

        if (dies)
            family.SignalWorker(HarnessLibc.SigKill);
        await gate.DisposeAsync();
        var result = await family.WaitAsync(Patient.Patience);

        Assert.True(CaptureFamily.ErrorOf(result)?.Reason == (dies ? "AgentDied" : "OutputExists"), result.ToString());
        Assert.Equal(manifest, await File.ReadAllBytesAsync(Path.Combine(output, "snapshot.json")));
        Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(output).IsSound);
        await patient.CountsOnAsync("the other's snapshot", Patient.TickLimit);
        Directory.Delete(output, recursive: true);
        await patient.NothingIsLeftAsync("the other's snapshot");
    }

    private static async Task DieTogetherAsync(Patient patient, string output, string point)
    {
        await using var gate = new HookGate(patient, point);
        await using var family = await patient.BeginAsync(gate.Hook, output, "--after", "stop");
        await gate.ReachedAsync(family);
        family.Signal(HarnessLibc.SigKill);
        family.SignalWorker(HarnessLibc.SigKill);
        await family.WaitAsync(Patient.Patience);
    }

    private static async Task GoesOnAsync(Patient patient, string output)
    {
        await patient.Machine.ContinueVcpusAsync();
        await patient.CountsOnAsync("its user resumed it", Patient.TickLimit);
        Directory.Delete(output, recursive: true);
        // QEMU 7.2 keeps a descriptor that the agent closes while the guest is stopped.
        await patient.CaptureWellAsync();
        await patient.NothingIsLeftAsync("a death after the end");
    }
}
