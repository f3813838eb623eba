using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>The way that <c>--mode=auto</c> chooses where memory should not, or cannot, follow the guest. It measures the volume.</summary>
[Collection(Alone.Name)]
public class AutoTests
{
    private const long SlowBytesPerSecond = 512 << 10;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    /// <summary>The same volume, fast and slow.</summary>
    [SkippableFact]
    public async Task A_slow_volume_is_read_before_the_guest_runs()
    {
        var machine = InstantMachines.Bare(QemuVersion.Unpacked10, RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(machine);
        await source.StopVcpusAsync();
        using (var memory = await source.OpenMemoryAsync())
            FillAllOver(memory);
        var snapshot = (await Agent.CaptureAsync(source, "snapshot")).Output;
        var truth = await File.ReadAllBytesAsync(await source.DumpMemoryAsync());
        await using var volume = await LoopVolume.OfAsync(snapshot, source.Folder);
        using var slow = SlowReads.TryCreate(volume.Number, SlowBytesPerSecond);
        Skip.If(slow is null, "no control group limits reads here");

        var (method, reason) = await RestoreAsync(machine, volume, [], truth);
        Assert.Equal("instant", method);
        Assert.Contains("the volume reads 64 KiB in", reason, StringComparison.Ordinal);

        (method, reason) = await RestoreAsync(machine, volume, slow.Starter, truth);
        Assert.True(method == "eager", $"{method}: {reason}");
        Assert.Contains("not instant: the volume takes", reason, StringComparison.Ordinal);
    }

    /// <summary>Without rights over QEMU's process, only QEMU's own loading remains.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task Without_rights_QEMU_loads_a_stream(QemuVersion version)
    {
        var options = InstantMachines.Checking(version, "pc", RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(options);
        var snapshot = await InstantMachines.SnapshotAsync(source);
        await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });

        // Still root, which owns the files; but QEMU has capabilities that this process lacks, so it may not inspect QEMU.
        var outcome = await OfAsync(["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"], snapshot, target);

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal("stream", outcome.Last.GetProperty("method").GetString());
        var reason = outcome.Last.GetProperty("methodReason").GetString();
        Assert.Contains("not instant: ", reason, StringComparison.Ordinal);
        Assert.Contains("; not eager: ", reason, StringComparison.Ordinal);
        await InstantMachines.AssertAllOfItIsRightAsync(target);
    }

    private static async Task<(string? Method, string? Reason)> RestoreAsync(
        VirtualMachineOptions machine,
        LoopVolume volume,
        IReadOnlyList<string> starter,
        byte[] truth
    )
    {
        await using var target = await VirtualMachine.StartAsync(machine with { Incoming = "defer", Paused = true });
        volume.DropCache();
        var outcome = await OfAsync(starter, volume.Folder, target);
        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        var restored = await File.ReadAllBytesAsync(await target.DumpMemoryAsync());
        Assert.True(truth.AsSpan().SequenceEqual(restored), "memory differs");
        return (outcome.Last.GetProperty("method").GetString(), outcome.Last.GetProperty("methodReason").GetString());
    }

    private static async Task<RestoreOutcome> OfAsync(IReadOnlyList<string> starter, string snapshot, VirtualMachine target)
    {
        await using var agent = await AgentProcess.StartByAsync(
            starter,
            null,
            // Without --mode, which is auto.
            ["restore", snapshot, "--qmp", target.QmpSocket, "--json"]
        );
        return RestoreOutcome.Parse(await agent.WaitAsync(Patience));
    }

    /// <summary>Noise in 16 places, so that there is data wherever the agent measures the volume.</summary>
    private static void FillAllOver(GuestMemory memory)
    {
        const int Places = 16,
            Length = 256 << 10;
        var noise = new byte[Length];
        var random = new Random(3);
        for (var i = 0; i < Places; i++)
        {
            random.NextBytes(noise);
            memory.Write((memory.Length / Places * i) + (2 << 20), noise);
        }
    }
}
