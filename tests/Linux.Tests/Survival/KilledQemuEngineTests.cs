using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>
/// An agent that dies while QEMU's own engine works leaves a running guest, and a QEMU whose next live migration works: the capability
/// background-snapshot is off again.
/// </summary>
public class KilledQemuEngineTests
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_agent_that_dies_leaves_no_capability_on(bool both)
    {
        await using var patient = await Patient.AdmitAsync(QemuVersion.Unpacked10);
        await using var family = await CaptureFamily.StartAsync(
            null,
            "--qmp",
            patient.Machine.QmpSocket,
            "--engine",
            "qemu",
            "--output",
            patient.NewOutput()
        );
        Assert.True(await family.FindWorkerAsync());
        while (!family.HasEnded && !(await CapabilitiesAsync(patient)).Contains("background-snapshot"))
            await Task.Delay(1);
        Assert.False(family.HasEnded, family.Output);

        if (both)
            family.Signal(HarnessLibc.SigKill);
        family.SignalWorker(HarnessLibc.SigKill);
        await family.WaitAsync(Patient.Patience);

        // The parent cleans up; if it is dead too, the next capture of this QEMU does.
        if (both)
            await patient.CaptureWellAsync();
        Assert.Empty(await CapabilitiesAsync(patient));
        await patient.CountsOnAsync("the kill", Patient.TickLimit);
    }

    /// <summary>QEMU before 8.1 would keep guest memory protected, with nothing left to let the guest write to it.</summary>
    [SkippableFact]
    public async Task A_QEMU_that_would_leave_its_guest_hanging_is_refused()
    {
        await using var patient = await Patient.AdmitAsync(QemuVersion.System);
        await using var family = await CaptureFamily.StartAsync(
            null,
            "--qmp",
            patient.Machine.QmpSocket,
            "--engine",
            "qemu",
            "--output",
            patient.NewOutput()
        );

        var result = await family.WaitAsync(Patient.Patience);

        Assert.True(CaptureFamily.ErrorOf(result) is { Reason: "EngineUnavailable", ExitCode: 4 }, $"{result}");
        Assert.Contains("8.1", result.StandardOutput, StringComparison.Ordinal);
        await patient.NothingIsLeftAsync("the refusal");
        await patient.CountsOnAsync("the refusal", Patient.TickLimit);
    }

    private static async Task<IReadOnlyList<string>> CapabilitiesAsync(Patient patient) =>
        [
            .. (await patient.Machine.Qmp.ExecuteAsync("query-migrate-capabilities"))
                .EnumerateArray()
                .Where(c => c.GetProperty("state").GetBoolean())
                .Select(c => c.GetProperty("capability").GetString()!),
        ];
}
