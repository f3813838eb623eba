using System.Diagnostics;
using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.HarnessTests;

/// <summary>Tests the harness: the guest's own check continues after a restore, and a machine leaves nothing behind.</summary>
public class VirtualMachineTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System, "exec")]
    [InlineData(QemuVersion.Unpacked10, "defer")]
    public async Task A_guest_that_QEMU_itself_saved_and_loaded_counts_on(QemuVersion version, string incoming)
    {
        var options = new VirtualMachineOptions
        {
            Version = version,
            Cpus = 2,
            Guest = new LinuxGuest
            {
                Writers = 2,
                MiB = 32,
                Fill = "random",
            },
        };
        await using var source = await Requirements.StartAsync(options);
        await source.WaitForTickAsync(3);
        await source.StopVcpusAsync();
        var stream = Path.Combine(source.Folder, "stream");
        await SaveAsync(source, stream);
        await Task.Delay(100); // the last line is in transit
        var last = source.LatestReport!;

        await using var restored = await VirtualMachine.StartAsync(
            options with
            {
                Incoming = incoming == "defer" ? "defer" : $"exec:cat {stream}",
            }
        );
        if (incoming == "defer")
            await restored.Qmp.ExecuteAsync("migrate-incoming", new JsonObject { ["uri"] = $"exec:cat {stream}" });
        await WaitUntilLoadedAsync(restored); // stopped, as when it was saved
        await restored.ContinueVcpusAsync();
        var first = await restored.WaitForTickAsync(1);
        var later = await restored.WaitForTickAsync(first.Tick + 5);

        // The first whole line; it is the one after next if the guest was captured within a line.
        Assert.InRange(first.Tick, last.Tick + 1, last.Tick + 2);
        Assert.True(first.Writes > last.Writes);
        Assert.Equal(0, later.Corrupt);
        Assert.True(later.Checked > first.Checked);
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_machine_as_in_a_launcher_is_unprivileged_and_in_its_own_namespaces(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(new VirtualMachineOptions { Version = version, Machine = "q35" }.AsInLauncher());

        var status = await File.ReadAllLinesAsync($"/proc/{vm.Pid}/status");

        Assert.Contains($"Uid:\t107\t107\t107\t107", status);
        Assert.Contains("CapPrm:\t0000000000000000", status);
        Assert.Contains("NoNewPrivs:\t1", status);
        Assert.Contains("Seccomp:\t2", status);
        foreach (var kind in (string[])["mnt", "pid"])
            Assert.NotEqual(new FileInfo($"/proc/self/ns/{kind}").LinkTarget, new FileInfo($"/proc/{vm.Pid}/ns/{kind}").LinkTarget);
        Assert.Equal(0, (await vm.WaitForTickAsync(2)).Corrupt);
    }

    [SkippableFact]
    public async Task A_fingerprint_stays_the_same_and_shows_what_is_left_behind()
    {
        await using var vm = await Requirements.StartAsync(new VirtualMachineOptions { Guest = new FirmwareGuest() });
        var before = await ProcessFingerprint.TakeAsync(vm);
        Assert.Empty(await before.DifferencesAfterwardsAsync(vm));

        await vm.StopVcpusAsync();
        using (await HarnessQmp.ConnectAsync(vm.QmpSocket, CancellationToken.None))
        {
            var during = (await ProcessFingerprint.TakeAsync(vm)).DifferencesFrom(before);
            Assert.Contains("run state running became paused", during);
            Assert.Contains(during, line => line.StartsWith("new: descriptor socket:", StringComparison.Ordinal));
        }

        await vm.ContinueVcpusAsync();
        Assert.Empty(await before.DifferencesAfterwardsAsync(vm));
    }

    [SkippableFact]
    public async Task A_machine_that_does_not_start_says_why_and_leaves_nothing_behind()
    {
        var options = new VirtualMachineOptions { Guest = new FirmwareGuest(), ExtraArguments = ["-no-such-option"] };
        Requirements.Need(options);
        var began = Stopwatch.GetTimestamp();

        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => VirtualMachine.StartAsync(options));

        Assert.Contains("no-such-option", error.Message, StringComparison.Ordinal);
        Assert.True(Stopwatch.GetElapsedTime(began) < TimeSpan.FromSeconds(30));
    }

    [SkippableFact]
    public async Task A_guest_that_gives_up_fails_the_start_at_once_with_its_reason()
    {
        var options = new VirtualMachineOptions
        {
            MemoryMiB = 128,
            Guest = new LinuxGuest { MiB = 256 },
        };
        Requirements.Need(options);

        var error = await Assert.ThrowsAsync<TimeoutException>(() => VirtualMachine.StartAsync(options));

        Assert.Contains("QEMU ended", error.Message, StringComparison.Ordinal);
        Assert.Contains("fatal=arenas-larger-than-free-memory", error.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task A_clean_stop_ends_QEMU_with_code_zero()
    {
        await using var vm = await Requirements.StartAsync(new VirtualMachineOptions { Guest = new FirmwareGuest() });

        await vm.StopCleanlyAsync();

        Assert.True(vm.HasExited);
        Assert.DoesNotContain("error", vm.QemuOutput, StringComparison.OrdinalIgnoreCase);
    }

    [SkippableFact]
    public async Task A_program_dies_with_the_test_run()
    {
        Requirements.NeedRoot();
        var process = await GuardedProcess.StartAsync(["sleep", "1000"]);

        await process.DisposeAsync(); // closes the pipe, as the kernel does when we die

        Assert.False(Directory.Exists($"/proc/{process.Pid}"));
    }

    private static async Task WaitUntilLoadedAsync(VirtualMachine vm)
    {
        var began = Stopwatch.GetTimestamp();
        while (await vm.Qmp.RunStateAsync() == "inmigrate")
        {
            Assert.True(Stopwatch.GetElapsedTime(began) < TimeSpan.FromSeconds(120), vm.Describe());
            await Task.Delay(20);
        }
    }

    private static async Task SaveAsync(VirtualMachine vm, string path)
    {
        await vm.Qmp.ExecuteAsync("migrate-set-parameters", new JsonObject { ["max-bandwidth"] = 10L << 30 });
        await vm.Qmp.ExecuteAsync("migrate", new JsonObject { ["uri"] = $"exec:cat > {path}" });
        while (true)
        {
            var status = (await vm.Qmp.ExecuteAsync("query-migrate")).GetProperty("status").GetString();
            if (status == "completed")
                return;
            Assert.False(status is "failed" or "cancelled", $"QEMU's migration {status}.");
            await Task.Delay(20);
        }
    }
}
