using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>
/// A stopped agent would hang the guest forever: the command kills it and reports that. The same applies to commands that are asked to end.
/// </summary>
public class StoppedAgentTests
{
    private const int SigInt = 2;
    private const int Seed = 77;
    private static readonly TimeSpan SlowestEnd = TimeSpan.FromSeconds(60);
    private static readonly string[] Slow = ["--bandwidth-limit", "30Mi"];

    [SkippableTheory]
    [InlineData("protected-ahead")]
    [InlineData("stop-sent")]
    [InlineData("stopped")]
    [InlineData("protected")]
    [InlineData("released")]
    [InlineData("unprotected")]
    [InlineData("before-commit")]
    [InlineData("ptrace", 1, 4, 8, 9, 12, 20, 25)]
    public async Task The_watchdog_frees_a_guest_whose_agent_stops(string point, params int[] counts)
    {
        await using var patient = await Patient.AdmitAsync();
        foreach (var count in counts is [] ? [1] : counts)
        {
            var hook = string.Create(CultureInfo.InvariantCulture, $"stop:{point}:{count}");
            var output = patient.NewOutput();
            await using var family = await patient.BeginAsync(hook, output);
            Assert.True(await family.FindWorkerAsync(), hook);
            await StoppedAsync(family);
            await patient.CountsOnAsync(hook, Patient.WatchdogLimit);
            await FailedAsync(patient, family, output, hook, "AgentDied", 1);
        }
    }

    [SkippableFact]
    public async Task The_watchdog_frees_a_guest_whose_agent_is_stopped_at_random_moments()
    {
        await using var patient = await Patient.AdmitAsync();
        var random = new Random(Seed);
        for (var i = 0; i < 6; i++)
        {
            var output = patient.NewOutput();
            await using var family = await patient.BeginAsync(null, output, Slow);
            Assert.True(await family.FindWorkerAsync());
            var moment = TimeSpan.FromMilliseconds(100 * i + random.Next(100));
            await Task.Delay(moment);
            var what = string.Create(CultureInfo.InvariantCulture, $"stopped at {moment.TotalMilliseconds:0} ms");
            family.SignalWorker(HarnessLibc.SigStop);
            await patient.CountsOnAsync(what, Patient.WatchdogLimit);
            await FailedAsync(patient, family, output, what, "AgentDied", 1);
        }
    }

    [SkippableFact]
    public async Task An_agent_that_goes_on_in_time_succeeds()
    {
        await using var patient = await Patient.AdmitAsync();
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(null, output, Slow);
        Assert.True(await family.FindWorkerAsync());
        await Task.Delay(300);
        family.SignalWorker(HarnessLibc.SigStop);
        await Task.Delay(300);
        family.SignalWorker(HarnessLibc.SigCont);

        var result = await family.WaitAsync(Patient.Patience);

        Assert.True(result.ExitCode == 0, result.ToString());
        Directory.Delete(output, recursive: true);
        await patient.NothingIsLeftAsync("a short stop");
    }

    [SkippableTheory]
    [InlineData(HarnessLibc.SigTerm)]
    [InlineData(SigInt)]
    public async Task A_command_that_is_asked_to_end_leaves_nothing(int signal)
    {
        await using var patient = await Patient.AdmitAsync();
        foreach (var milliseconds in (int[])[20, 150, 400, 700])
        {
            var output = patient.NewOutput();
            var what = string.Create(CultureInfo.InvariantCulture, $"signal {signal} after {milliseconds} ms");
            await using var family = await patient.BeginAsync(null, output, Slow);
            Assert.True(await family.FindWorkerAsync());
            await Task.Delay(milliseconds);
            family.Signal(signal);
            await patient.CountsOnAsync(what, Patient.TickLimit);
            await FailedAsync(patient, family, output, what, "Cancelled", 130);
        }
    }

    [SkippableFact]
    public async Task A_guest_whose_command_was_killed_outright_is_given_up()
    {
        await using var patient = await Patient.AdmitAsync();
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(null, output, Slow);
        Assert.True(await family.FindWorkerAsync());
        await Task.Delay(300);
        family.Signal(HarnessLibc.SigKill);
        await patient.CountsOnAsync("the command killed", Patient.TickLimit);
        await family.WaitAsync(SlowestEnd); // the worker ends by itself

        await patient.NothingIsLeftAsync("the command killed");
    }

    /// <summary>After that no process could serve faults, so the agent must not protect anything, and need not stop the guest.</summary>
    [SkippableFact]
    public async Task A_capture_that_is_cancelled_while_it_prepares_does_not_touch_the_guest()
    {
        await using var patient = await Patient.AdmitAsync();
        var point = Path.Combine(patient.Outputs, "point");
        await using (var family = await patient.BeginAsync($"wait:ptrace:4:{point}", patient.NewOutput()))
        {
            while (!File.Exists(point) && !family.HasEnded)
                await Task.Delay(1);
            family.Signal(HarnessLibc.SigTerm);
            // Enough time for the worker to receive it.
            await Task.Delay(300);
            File.Delete(point);
            var result = await family.WaitAsync(SlowestEnd);
            Assert.True(CaptureFamily.ErrorOf(result)?.Reason == "Cancelled", result.ToString());
        }

        Assert.DoesNotContain(patient.Machine.Qmp.Events, e => e.Name == "STOP");
        await patient.CountsOnAsync("a cancel while it prepares", Patient.TickLimit);
        await patient.NothingIsLeftAsync("a cancel while it prepares");
    }

    /// <summary>Otherwise it would hold QEMU's only monitor forever, and no capture of the VM would ever be possible again.</summary>
    [SkippableFact]
    public async Task A_stopped_agent_whose_command_was_killed_ends()
    {
        await using var patient = await Patient.AdmitAsync();
        await using (var family = await patient.BeginAsync("stop:facts:1", patient.NewOutput()))
        {
            Assert.True(await family.FindWorkerAsync());
            await StoppedAsync(family);
            family.Signal(HarnessLibc.SigKill);
            try
            {
                await family.WaitAsync(TimeSpan.FromSeconds(60));
            }
            finally
            {
                family.SignalWorker(HarnessLibc.SigKill);
            }
        }

        await patient.NothingIsLeftAsync("the command killed, and the agent stopped");
    }

    [SkippableTheory]
    [InlineData(0)]
    [InlineData(60)]
    [InlineData(250)]
    [InlineData(600)]
    public async Task A_QEMU_that_dies_meanwhile_ends_the_command_with_a_clear_message(int milliseconds)
    {
        await using var patient = await Patient.AdmitAsync();
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(null, output, Slow);
        Assert.True(await family.FindWorkerAsync());
        await Task.Delay(milliseconds);
        await patient.Machine.KillAsync();

        var result = await family.WaitAsync(SlowestEnd);

        var error = CaptureFamily.ErrorOf(result);
        Assert.True(error is not null && result.ExitCode is 1 or 6, result.ToString());
        Assert.True(error!.Reason is "QemuGone" or "QemuUnreachable" or "SystemCallFailed", result.ToString());
        Assert.DoesNotContain("   at ", result.StandardError, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(patient.Outputs));
    }

    private static async Task FailedAsync(Patient patient, CaptureFamily family, string output, string what, string reason, int code)
    {
        var result = await family.WaitAsync(SlowestEnd);
        var error = CaptureFamily.ErrorOf(result);
        Assert.True(error?.Reason == reason && result.ExitCode == code, $"{what}: {result}");
        Assert.False(Directory.Exists(output), what);
        await patient.NothingIsLeftAsync(what);
    }

    /// <summary>Waits until the worker has stopped itself.</summary>
    private static async Task StoppedAsync(CaptureFamily family)
    {
        while (!family.HasEnded && State(family.Worker) is not ('T' or '\0'))
            await Task.Delay(1);
    }

    private static char State(int pid)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{pid}/stat");
            return stat[stat.LastIndexOf(')') + 2];
        }
        catch (IOException)
        {
            return '\0';
        }
    }
}
