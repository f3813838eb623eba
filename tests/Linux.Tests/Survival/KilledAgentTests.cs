using System.Diagnostics;
using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>Whenever the capturing process is killed, the guest runs on unharmed and nothing is left behind.</summary>
public class KilledAgentTests
{
    private const int Moments = 30;
    private const int Seed = 20240917;
    private const int MostPtraceCalls = 100;

    /// <summary>Every point of TestHooks.After except those at single ptrace calls.</summary>
    private static readonly string[] Points =
    [
        "protected-ahead",
        "stop-sent",
        "stopped",
        "protected",
        "released",
        "unprotected",
        "before-commit",
        "committed",
    ];

    public static TheoryData<QemuVersion, RamKind> Machines =>
        new()
        {
            { QemuVersion.System, RamKind.Anonymous },
            { QemuVersion.System, RamKind.Memfd },
            { QemuVersion.Unpacked10, RamKind.Anonymous },
        };

    [SkippableFact]
    public async Task A_guest_survives_kills_at_random_moments()
    {
        await using var patient = await Patient.AdmitAsync();
        var duration = await MeasureAsync(patient);
        var random = new Random(Seed);
        for (int i = 0, missed = 0; i < Moments; i++)
        {
            var output = patient.NewOutput();
            var moment = duration * ((i / 3 + random.NextDouble()) / (Moments / 3)); // spread evenly over each third of the runs
            var whom = (Victims)(i % 3);
            var what = string.Create(
                CultureInfo.InvariantCulture,
                $"kill {i} of {whom} at {moment.TotalMilliseconds:0} of {duration.TotalMilliseconds:0} ms"
            );
            await using var family = await patient.BeginAsync(null, output, Slow);
            if (!await family.FindWorkerAsync())
            {
                // The capture ended before the hook's turn came: nothing was killed, so run it again.
                await CleanedUpAsync(patient, output, await family.WaitAsync(Patient.Patience), what);
                Assert.True(++missed < Moments, $"{what}: no worker was seen, {missed} times");
                i--;
                continue;
            }

            await Task.Delay(moment);
            Kill(family, whom);
            await patient.CountsOnAsync(what, Patient.TickLimit);
            await CleanedUpAsync(patient, output, await family.WaitAsync(Patient.Patience), what);
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Machines))]
    public async Task A_guest_survives_a_kill_after_every_single_ptrace_call(QemuVersion version, RamKind ram)
    {
        await using var patient = await Patient.AdmitAsync(version, ram);
        var call = 1;
        for (; call < MostPtraceCalls; call++)
        {
            if (!await DiesAtAsync(patient, $"kill:ptrace:{call}"))
                break;
        }

        Assert.InRange(call, 10, MostPtraceCalls - 1);
    }

    [SkippableTheory]
    [MemberData(nameof(Machines))]
    public async Task A_guest_survives_a_kill_at_every_named_point(QemuVersion version, RamKind ram)
    {
        await using var patient = await Patient.AdmitAsync(version, ram);
        foreach (var point in Points)
            Assert.True(await DiesAtAsync(patient, $"kill:{point}"), $"{point} was never reached");
    }

    /// <returns>False if the capture succeeded because it did not reach the hook's point.</returns>
    private static async Task<bool> DiesAtAsync(Patient patient, string hook)
    {
        var output = patient.NewOutput();
        var result = await patient.CaptureAsync(hook, output);
        await patient.CountsOnAsync(hook, Patient.TickLimit);
        var died = result.ExitCode != 0;
        await CleanedUpAsync(patient, output, result, hook);
        return died;
    }

    private static async Task CleanedUpAsync(Patient patient, string output, AgentResult result, string what)
    {
        if (result.ExitCode == 0)
        {
            Assert.True(File.Exists(Path.Combine(output, "snapshot.json")), $"{what}: success without a snapshot");
            Directory.Delete(output, recursive: true);
        }
        else if (CaptureFamily.ErrorOf(result) is { } error)
        {
            // The command outlived its child and has cleaned up.
            Assert.True(error.Reason == "AgentDied" && result.ExitCode == 1, $"{what}: {result}");
            Assert.False(Directory.Exists(output), what);
        }
        else
        {
            // The command itself was killed: the next capture cleans up. If it got as far as the rename, the snapshot is complete.
            Assert.True(result.ExitCode == 128 + HarnessLibc.SigKill, $"{what}: {result}");
            if (Directory.Exists(output))
            {
                Assert.True(SnapshotFormat.Store.SnapshotVerifier.Verify(output).IsSound, what);
                Directory.Delete(output, recursive: true);
            }

            await patient.CaptureWellAsync();
        }

        await patient.NothingIsLeftAsync(what);
    }

    private enum Victims
    {
        Worker,
        Family,
        Command,
    }

    private static readonly string[] Slow = ["--bandwidth-limit", "300Mi"];

    private static void Kill(CaptureFamily family, Victims whom)
    {
        if (whom != Victims.Worker)
            family.Signal(HarnessLibc.SigKill);
        if (whom != Victims.Command)
            family.SignalWorker(HarnessLibc.SigKill);
    }

    private static async Task<TimeSpan> MeasureAsync(Patient patient)
    {
        var output = patient.NewOutput();
        await using var family = await patient.BeginAsync(null, output, Slow);
        Assert.True(await family.FindWorkerAsync());
        var began = Stopwatch.GetTimestamp();
        var result = await family.WaitAsync(Patient.Patience);
        Assert.True(result.ExitCode == 0, result.ToString());
        Directory.Delete(output, recursive: true);
        return Stopwatch.GetElapsedTime(began);
    }
}
