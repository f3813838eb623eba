using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>
/// A clone learns that it is a clone: QEMU gives the guest the generation id of the machine that it is restored into (vmgenid_post_load()
/// in hw/acpi/vmgenid.c), whichever way its memory is loaded.
/// </summary>
public class GenerationIdTests
{
    // A value that occurs nowhere else in memory.
    private static readonly Guid Captured = new("5be1a6a0-37c2-4d0c-9a55-0d1f6f3f7a01"),
        Restored = new("c08d1f52-9e64-4b7b-8f0e-7a1d5b0c9e02");

    [SkippableTheory]
    [InlineData(QemuVersion.System, "stream")]
    [InlineData(QemuVersion.System, "instant")]
    [InlineData(QemuVersion.Unpacked10, "instant")]
    [InlineData(QemuVersion.Unpacked10, "eager")]
    public async Task A_restored_guest_has_the_generation_id_of_its_new_machine(QemuVersion version, string mode)
    {
        await using var source = await Requirements.StartAsync(With(version, Captured));
        var snapshot = (await Agent.CaptureAsync(source, "snapshot")).Output;
        await source.StopVcpusAsync();
        var before = await File.ReadAllBytesAsync(await source.DumpMemoryAsync());
        var at = before.AsSpan().IndexOf(Captured.ToByteArray());
        Assert.True(at > 0, "the firmware did not place the generation id");

        await using var target = await VirtualMachine.StartAsync(With(version, Restored) with { Incoming = "defer" });
        var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--mode=" + mode);
        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        await target.WaitForTickAsync(2);

        var after = await File.ReadAllBytesAsync(await target.DumpMemoryAsync());
        Assert.Equal(Restored, new Guid(after.AsSpan(at, 16)));
    }

    private static VirtualMachineOptions With(QemuVersion version, Guid id) =>
        new() { Version = version, ExtraArguments = ["-device", $"vmgenid,guid={id}"] };
}
