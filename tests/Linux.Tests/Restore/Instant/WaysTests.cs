using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>The other ways, the choice between them, and what one restore records for the next.</summary>
public class WaysTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd)]
    public async Task Eager_brings_every_byte_back(QemuVersion version, RamKind ram)
    {
        var machine = InstantMachines.Bare(version, ram);
        await using var source = await Requirements.StartAsync(machine);
        await InstantMachines.WriteWithHolesAsync(source);
        var snapshot = (await Agent.CaptureAsync(source, "snapshot", "--compression=lz4")).Output;
        var truth = await File.ReadAllBytesAsync(await source.DumpMemoryAsync());
        await using var target = await VirtualMachine.StartAsync(machine with { Incoming = "defer", Paused = true });
        using (var memory = await target.OpenMemoryAsync())
            memory.Write(100 << 20, [1, 2, 3, 4]);

        var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--mode=eager");

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal("eager", outcome.Last.GetProperty("method").GetString());
        var restored = await File.ReadAllBytesAsync(await target.DumpMemoryAsync());
        Assert.True(truth.AsSpan().SequenceEqual(restored), "memory differs");
    }

    [SkippableFact]
    public async Task Auto_is_instant_where_it_can_be_and_says_why_it_is_not()
    {
        var options = InstantMachines.Checking(QemuVersion.Unpacked10, "q35", RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(options);
        var snapshot = await InstantMachines.SnapshotAsync(source);
        await using (var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" }))
        {
            var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--mode=auto");
            Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
            Assert.Equal("instant", outcome.Last.GetProperty("method").GetString());
            Assert.Contains("the volume reads 64 KiB in", outcome.Last.GetProperty("methodReason").GetString(), StringComparison.Ordinal);
        }

        await using (var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" }))
        {
            await using var agent = await AgentProcess.StartAsync(
                Agent.Hook("deny:ptrace"),
                "restore",
                snapshot,
                "--qmp",
                target.QmpSocket,
                "--mode=auto",
                "--json",
                "--worker"
            );
            var outcome = RestoreOutcome.Parse(await agent.WaitAsync(TimeSpan.FromSeconds(60)));
            Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
            Assert.Equal("eager", outcome.Last.GetProperty("method").GetString());
            Assert.Contains(
                "not instant: ptrace is denied",
                outcome.Last.GetProperty("methodReason").GetString(),
                StringComparison.Ordinal
            );
            await InstantMachines.AssertAllOfItIsRightAsync(target);
        }
    }

    [SkippableFact]
    public async Task What_a_guest_touches_first_is_noted_and_brought_in_first_the_next_time()
    {
        var options = InstantMachines.Checking(QemuVersion.System, "pc", RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(options);
        var snapshot = await InstantMachines.SnapshotAsync(source);

        Assert.Equal(0, await RecordedAsync());
        var note = Path.Combine(snapshot, "start-order");
        Assert.True(File.Exists(note));
        Assert.True(SnapshotVerifier.Verify(snapshot).IsSound);
        Assert.True(await RecordedAsync() > 10);

        // The agent treats a damaged record as a missing one.
        var bytes = await File.ReadAllBytesAsync(note);
        bytes[40] ^= 1;
        await File.WriteAllBytesAsync(note, bytes);
        Assert.Equal(0, await RecordedAsync());

        async Task<int> RecordedAsync()
        {
            await using var target = await VirtualMachine.StartAsync(options with { Incoming = "defer" });
            var outcome = await InstantMachines.RestoreAsync(snapshot, target, "--bandwidth-limit=60Mi");
            await Machines.AssertLivesAsync(target);
            return InstantMachines.InstantOf(outcome).GetProperty("recordedUnits").GetInt32();
        }
    }

    [SkippableFact]
    public async Task Where_it_cannot_be_instant_it_is_said_before_anything_is_done()
    {
        var options = InstantMachines.Checking(QemuVersion.System, "pc", RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(options);
        var snapshot = await InstantMachines.SnapshotAsync(source);
        await using var target = await VirtualMachine.StartAsync(
            options with
            {
                Incoming = "defer",
                ExtraArguments = ["-overcommit", "mem-lock=on"],
            }
        );

        var outcome = await RestoreOutcome.OfAsync(snapshot, target, "--mode=instant");

        Assert.Equal((4, "EngineUnavailable"), (outcome.Process.ExitCode, outcome.Reason));
        Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
        InstantMachines.AssertNothingIsLeft(target);
        await Agent.RestoreAsync(snapshot, target);
        await InstantMachines.AssertAllOfItIsRightAsync(target);
    }
}
