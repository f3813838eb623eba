using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>
/// The graph of who waits for whom, from a vCPU to the disk (docs/design/0019-who-waits-for-whom.md): the tests stop each node in turn, and
/// the guest runs all the same. Without our measures it never would, so the limit may be generous.
/// </summary>
public class WhoWaitsTests
{
    private const int Ticks = 3;

    /// <summary>The longest downtime plus one second, plus time for a busy host.</summary>
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan SlowestEnd = TimeSpan.FromSeconds(120);
    private static readonly string[] Slow = ["--max-downtime", "1s", "--bandwidth-limit", "60Mi"];

    [SkippableTheory]
    [InlineData("protected-ahead")]
    [InlineData("stopped")]
    [InlineData("protected")]
    [InlineData("disks-begin")]
    public async Task Both_our_processes_are_stopped(string point)
    {
        await using var patient = await Patient.AdmitAsync();
        await using var gate = new HookGate(patient, point);
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(gate.Hook, output, Slow);
        await gate.ReachedAsync(family);
        family.Signal(HarnessLibc.SigStop);
        family.SignalWorker(HarnessLibc.SigStop);

        await FreeAsync(patient, point);

        family.Signal(HarnessLibc.SigCont);
        await DiedAsync(patient, family, output);
    }

    [SkippableTheory]
    [InlineData(Freezer.V1)]
    [InlineData(Freezer.V2)]
    public async Task The_capturing_process_is_frozen(Freezer freezer)
    {
        await using var patient = await Patient.AdmitAsync();
        await using var gate = new HookGate(patient, "disks-begin");
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(gate.Hook, output, Slow);
        await gate.ReachedAsync(family);
        await using var frozen = await FrozenGroup.OfAsync(freezer, family.Worker);

        await FreeAsync(patient, $"frozen by {freezer}");

        // A process frozen by cgroup v1 dies only when it is thawed; the command did not wait for that.
        await SaidAsync(family, "\"type\":\"error\"");
        await frozen.ThawAsync();
        await DiedAsync(patient, family, output);
    }

    [SkippableFact]
    public async Task Both_our_processes_are_frozen_by_version_2()
    {
        await using var patient = await Patient.AdmitAsync();
        await using var gate = new HookGate(patient, "disks-begin");
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(gate.Hook, output, Slow);
        await gate.ReachedAsync(family);
        await using var frozen = await FrozenGroup.OfAsync(Freezer.V2, family.Worker, family.Command);

        await FreeAsync(patient, "both frozen");

        await frozen.ThawAsync();
        await DiedAsync(patient, family, output);
    }

    /// <summary>
    /// What is impossible: a process frozen by cgroup v1 takes no signal and keeps what it holds. docs/security.md says so.
    /// </summary>
    [SkippableFact]
    public async Task Both_our_processes_are_frozen_by_version_1_and_the_guest_is_free_when_they_are_thawed()
    {
        await using var patient = await Patient.AdmitAsync();
        await using var gate = new HookGate(patient, "disks-begin");
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(gate.Hook, output, Slow);
        await gate.ReachedAsync(family);
        await using var frozen = await FrozenGroup.OfAsync(Freezer.V1, family.Worker, family.Command);
        await Task.Delay(TimeSpan.FromSeconds(3)); // the capturing process's timer expires meanwhile
        await frozen.ThawAsync();

        await FreeAsync(patient, "thawed");

        await DiedAsync(patient, family, output);
    }

    [SkippableFact]
    public async Task A_thread_of_the_background_copy_sticks_to_what_it_claimed()
    {
        await using var patient = await Patient.AdmitAsync();
        await using var gate = new HookGate(patient, "claimed", 40);
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(gate.Hook, output, Slow);
        await gate.ReachedAsync(family);

        await FreeAsync(patient, "a claim that is not released");

        await DiedAsync(patient, family, output);
    }

    [SkippableFact]
    public async Task The_capturing_thread_waits_for_QEMU_longer_than_the_buffers_last()
    {
        await using var patient = await Patient.AdmitAsync();
        await using var gate = new HookGate(patient, "disks-begin");
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(gate.Hook, output, "--max-downtime", "1s", "--stage-memory", "48Mi");
        await gate.ReachedAsync(family);
        await FreeAsync(patient, "an answer of QEMU's that does not come");
        await Task.Delay(TimeSpan.FromSeconds(3)); // longer than a guest's write may wait for the file
        await gate.DisposeAsync();

        var result = await family.WaitAsync(SlowestEnd);

        Assert.True(result.ExitCode == 0, result.ToString());
        Directory.Delete(output, recursive: true);
        await patient.NothingIsLeftAsync("a long wait for QEMU");
    }

    [SkippableFact]
    public async Task The_target_volume_hangs()
    {
        await using var patient = await Patient.AdmitAsync();
        await using var volume = await HangingVolume.CreateAsync(patient.Machine.Folder, 400);
        await using var gate = new HookGate(patient, "protected-ahead");
        await using var family = await patient.BeginAsync(
            gate.Hook,
            Path.Combine(volume.Folder, "s"),
            "--max-downtime",
            "1s",
            "--stage-memory",
            "48Mi"
        );
        await gate.ReachedAsync(family);
        await volume.HangAsync();
        try
        {
            await gate.DisposeAsync();

            await FreeAsync(patient, "the volume hangs");

            // The writing threads sleep in the kernel: the process cannot end, and the command does not wait for it.
            await SaidAsync(family, "\"reason\":\"TargetTooSlow\"");
        }
        finally
        {
            // Before anything waits for the sleeping process to end.
            await volume.GoOnAsync();
        }

        var result = await family.WaitAsync(SlowestEnd);
        Assert.True(result.ExitCode == 1 && CaptureFamily.ErrorOf(result)?.Reason == "TargetTooSlow", result.ToString());
        await patient.NothingIsLeftAsync("a volume that hangs");
    }

    [SkippableFact]
    public async Task Nobody_reads_what_the_capturing_process_says()
    {
        await using var patient = await Patient.AdmitAsync();
        await using var deaf = await DeafParent.StartAsync(patient, Slow);

        await deaf.CompletedAsync(SlowestEnd);

        await FreeAsync(patient, "a parent that does not read");
    }

    [SkippableFact]
    public async Task Nobody_reads_what_the_command_says()
    {
        await using var patient = await Patient.AdmitAsync();
        await using var deaf = await DeafParent.StartAsync(patient, Slow, worker: false);

        await deaf.CompletedAsync(SlowestEnd);

        await FreeAsync(patient, "a reader that does not read");
    }

    /// <summary>Asserts that the guest counts and keeps counting: a guest whose memory stays protected does not get that far.</summary>
    private static async Task FreeAsync(Patient patient, string what)
    {
        await patient.CountsOnAsync(what, Limit);
        await patient.Machine.WaitForMoreTicksAsync(Ticks);
    }

    private static async Task DiedAsync(Patient patient, CaptureFamily family, string output)
    {
        var result = await family.WaitAsync(SlowestEnd);
        var error = CaptureFamily.ErrorOf(result);
        Assert.True(error?.Reason == "AgentDied" && result.ExitCode == 1, result.ToString());
        Assert.Contains("the guest runs", error!.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(output));
        await patient.CaptureWellAsync(); // removes what an unkillable process has left beside the output
        await patient.NothingIsLeftAsync("the capturing process died");
    }

    private static async Task SaidAsync(CaptureFamily family, string text)
    {
        var began = family.Elapsed;
        while (!family.Output.Contains(text, StringComparison.Ordinal))
        {
            if (family.Elapsed - began > SlowestEnd)
                throw new TimeoutException(string.Create(CultureInfo.InvariantCulture, $"The command never said {text}:\n{family.Output}"));
            await Task.Delay(20);
        }
    }
}
