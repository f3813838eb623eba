using System.Globalization;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>
/// Memory comes back byte for byte into every kind of RAM, whatever it contained; pages that are zero on both sides cost nothing.
/// </summary>
public class MemoryRestoreTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);

    [SkippableTheory]
    [InlineData(QemuVersion.System, RamKind.Anonymous, false)]
    [InlineData(QemuVersion.System, RamKind.Memfd, false)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Memfd, true)]
    [InlineData(QemuVersion.Unpacked10, RamKind.Anonymous, false)]
    public async Task Every_byte_is_back(QemuVersion version, RamKind ram, bool preallocated)
    {
        var machine = new VirtualMachineOptions
        {
            Version = version,
            Ram = ram,
            Machine = "q35",
            MemoryMiB = 256,
            Guest = new FirmwareGuest(),
        };
        await using var source = await Requirements.StartAsync(machine);
        await source.StopVcpusAsync();
        var snapshot = Path.Combine(source.Folder, "snapshot");
        var captured = await AgentProcess.RunAsync(Patience, "capture", "--qmp", source.QmpSocket, "--output", snapshot);
        Assert.True(captured.ExitCode == 0, captured.ToString());
        var truth = await File.ReadAllBytesAsync(await source.DumpMemoryAsync());
        Assert.Contains(truth, b => b != 0);

        // With -S the guest stays as it was restored.
        await using var target = await VirtualMachine.StartAsync(Waiting(machine, preallocated));
        // With only a firmware, little of RAM is data. The former content must not show through: no hole holds it.
        using (var memory = await target.OpenMemoryAsync())
            memory.Write(100 << 20, [1, 2, 3, 4]);
        var before = SharedKibibytes(target.Pid);
        var outcome = await RestoreOutcome.OfAsync(snapshot, target);

        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal("paused", outcome.Last.GetProperty("guestState").GetString());
        Assert.Equal("paused", await target.Qmp.RunStateAsync());
        var restored = await File.ReadAllBytesAsync(await target.DumpMemoryAsync());
        Assert.True(truth.AsSpan().SequenceEqual(restored), "memory differs");
        if (ram == RamKind.Memfd && !preallocated)
            Assert.InRange(before, 0, 32 << 10);
    }

    [SkippableFact]
    public async Task Zeroes_are_not_sent_into_holes()
    {
        var machine = new VirtualMachineOptions
        {
            Ram = RamKind.Memfd,
            MemoryMiB = 256,
            Guest = new FirmwareGuest(),
        };
        await using var source = await Requirements.StartAsync(machine);
        var snapshot = Path.Combine(source.Folder, "snapshot");
        var captured = await AgentProcess.RunAsync(Patience, "capture", "--qmp", source.QmpSocket, "--output", snapshot);
        Assert.True(captured.ExitCode == 0, captured.ToString());
        await using var target = await VirtualMachine.StartAsync(Waiting(machine, false));

        var outcome = await RestoreOutcome.OfAsync(snapshot, target);

        Assert.True(outcome.Process.ExitCode == 0, outcome.ToString());
        // An export of the same snapshot, which cannot look at its reader's memory, fills all 256 MiB.
        Assert.InRange(SharedKibibytes(target.Pid), 1, 128 << 10);
    }

    /// <summary>
    /// A stream that a cancellation cuts off in the middle ends QEMU, or leaves it so that it runs nothing; a new QEMU accepts the whole
    /// stream.
    /// </summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_stream_cut_off_in_the_middle_never_runs_and_a_fresh_QEMU_takes_it(QemuVersion version)
    {
        var machine = Machines.Counting(version, "pc", RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(machine);
        await Machines.WarmUpAsync(source);
        var snapshot = await Agent.CaptureAsync(source, "snapshot");
        await source.StopVcpusAsync();

        for (var tries = 0; ; tries++)
        {
            await using var target = await VirtualMachine.StartAsync(machine with { Incoming = "defer" });
            RestoreProgress progress = new();
            using CancellationTokenSource cancel = new();
            var restore = Task.Run(() =>
                RestoreRun.Run(
                    new RestoreOptions
                    {
                        Directory = snapshot.Output,
                        Target = new MonitorAddress { QmpSocket = target.QmpSocket },
                    },
                    new StreamRestore(),
                    progress,
                    cancel.Token
                )
            );
            while (!restore.IsCompleted && !(progress.Phase == "Memory" && progress.DoneBytes > 4 << 20))
                Thread.Yield();
            HarnessLibc.Kill(target.Pid, HarnessLibc.SigStop); // the pipe fills, the writer waits
            if (restore.IsCompleted)
            {
                HarnessLibc.Kill(target.Pid, HarnessLibc.SigCont);
                Assert.True(tries < 10, "the restore is always quicker than this test");
                continue;
            }

            cancel.Cancel();
            HarnessLibc.Kill(target.Pid, HarnessLibc.SigCont);
            var error = await Record.ExceptionAsync(() => restore);
            Assert.True(error is RestoreFailedException { Reason: "Cancelled" }, error?.ToString());
            Assert.DoesNotContain(target.Qmp.Events, e => e.Name == "RESUME");
            if (await StillWaitsAsync(target))
            {
                var again = await RestoreOutcome.OfAsync(snapshot.Output, target);
                Assert.Equal((3, "TargetNotWaiting"), (again.Process.ExitCode, again.Reason));
            }

            Assert.DoesNotContain(target.Qmp.Events, e => e.Name == "RESUME");
            break;
        }

        await using var fresh = await VirtualMachine.StartAsync(machine with { Incoming = "defer" });
        await Agent.RestoreAsync(snapshot.Output, fresh);
        await Machines.AssertLivesAsync(fresh);
    }

    /// <summary>
    /// A QEMU whose stream was cut off keeps waiting, or exits, possibly while the test asks it. Any other state is a failure.
    /// </summary>
    private static async Task<bool> StillWaitsAsync(VirtualMachine target)
    {
        try
        {
            Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
            return true;
        }
        catch (IOException)
        {
            for (var end = DateTime.UtcNow.AddSeconds(10); !target.HasExited; await Task.Delay(20))
                Assert.True(DateTime.UtcNow < end, "QEMU closed its monitor and did not end");
            return false;
        }
    }

    [SkippableFact]
    public async Task Five_restores_of_one_snapshot_side_by_side()
    {
        var machine = new VirtualMachineOptions
        {
            MemoryMiB = 192,
            Guest = new LinuxGuest { MiB = 16, Fill = "random" },
        };
        using var snapshot = await DiskSnapshot.TakeAsync(machine, "zstd");
        List<VirtualMachine> targets = [];
        List<string> systems = [];
        try
        {
            for (var i = 0; i < 5; i++)
            {
                var (system, data) = DiskRestoreTests.OtherImages(snapshot.Folder, "raw", "qcow2");
                systems.Add(system);
                targets.Add(
                    await VirtualMachine.StartAsync(
                        machine with
                        {
                            Incoming = "defer",
                            ExtraArguments = DiskSnapshot.Arguments(system, "raw", data, "qcow2"),
                        }
                    )
                );
            }

            var outcomes = await Task.WhenAll(targets.Select(t => RestoreOutcome.OfAsync(snapshot.Directory, t)));

            Assert.All(outcomes, o => Assert.True(o.Process.ExitCode == 0, o.ToString()));
            foreach (var target in targets)
                Assert.True((await target.WaitForMoreTicksAsync(2, TimeSpan.FromSeconds(60))).Corrupt == 0, target.Describe());
            Assert.All(systems, s => Assert.Equal(snapshot.System, Disks.Content(snapshot.Folder, s, "raw")));
        }
        finally
        {
            foreach (var target in targets)
                await target.DisposeAsync();
        }
    }

    private static VirtualMachineOptions Waiting(VirtualMachineOptions machine, bool preallocated) =>
        preallocated
            ? machine with
            {
                Incoming = "defer",
                Paused = true,
                Ram = RamKind.Anonymous,
                Machine = $"{machine.Machine},memory-backend=mem",
                ExtraArguments =
                [
                    "-object",
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"memory-backend-memfd,id=mem,size={machine.MemoryMiB}M,share=on,prealloc=on"
                    ),
                ],
            }
            : machine with
            {
                Incoming = "defer",
                Paused = true,
            };

    private static long SharedKibibytes(int pid) =>
        long.Parse(
            File.ReadLines($"/proc/{pid}/status")
                .Single(l => l.StartsWith("RssShmem:", StringComparison.Ordinal))
                .Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2],
            CultureInfo.InvariantCulture
        );
}
