using System.Globalization;
using Bgsnap.Engine.Capture;
using Bgsnap.Engine.Restore;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Linux.Tests.BadInput;

/// <summary>
/// The agent detects every damage to a real snapshot. No guest ever runs on a damaged snapshot, or on a machine that does not fit it.
/// </summary>
public sealed class DamagedSnapshotTests : IAsyncLifetime
{
    private const int Flips = 500;
    private const int Seed = 4711;
    private static readonly string[] Files = ["snapshot.json", "device-state", "memory"];
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);
    private static readonly VirtualMachineOptions Firmware = new() { MemoryMiB = 64, Guest = new FirmwareGuest() };
    private VirtualMachine? _source;
    private string _snapshot = "";

    public async Task InitializeAsync()
    {
        if (!HarnessLibc.IsRoot || TestFiles.Missing(Firmware) is not null)
            return;
        _source = await VirtualMachine.StartAsync(Firmware);
        _snapshot = Path.Combine(_source.Folder, "snapshot");
        var result = await AgentProcess.RunAsync(
            Patience,
            "capture",
            "--qmp",
            _source.QmpSocket,
            "--output",
            _snapshot,
            "--compression",
            "zstd"
        );
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.True(SnapshotVerifier.Verify(_snapshot).IsSound);
    }

    public async Task DisposeAsync()
    {
        if (_source is not null)
            await _source.DisposeAsync();
    }

    [SkippableFact]
    public void Every_flipped_byte_is_found()
    {
        Requirements.Need(Firmware);
        var random = new Random(Seed);
        foreach (var name in Files)
        {
            var whole = File.ReadAllBytes(Path.Combine(_snapshot, name));
            foreach (var at in Places(random, name, whole.Length))
            {
                var flipped = (byte)(1 + random.Next(255));
                Write(name, at, (byte)(whole[at] ^ flipped));
                var report = SnapshotVerifier.Verify(_snapshot);
                Write(name, at, whole[at]);
                Assert.False(report.IsSound, string.Create(CultureInfo.InvariantCulture, $"{name}: byte {at} ^ {flipped} was not found"));
                Assert.Contains(report.Problems, problem => problem.ToString().Contains(name, StringComparison.Ordinal));
            }
        }

        Assert.True(SnapshotVerifier.Verify(_snapshot).IsSound);
    }

    [SkippableFact]
    public void Every_cut_off_file_is_found()
    {
        Requirements.Need(Firmware);
        foreach (var name in Files)
        {
            var path = Path.Combine(_snapshot, name);
            var whole = File.ReadAllBytes(path);
            int[] lengths =
            [
                0,
                1,
                7,
                8,
                511,
                4095,
                4096,
                4097,
                whole.Length / 2,
                whole.Length - 4097,
                whole.Length - 4096,
                whole.Length - 8,
                whole.Length - 1,
            ];
            foreach (var length in lengths.Where(length => length >= 0 && length < whole.Length))
            {
                File.WriteAllBytes(path, whole[..length]);
                Assert.False(SnapshotVerifier.Verify(_snapshot).IsSound, $"{name} cut off at {length}");
            }

            File.WriteAllBytes(path, [.. whole, 0]);
            Assert.False(SnapshotVerifier.Verify(_snapshot).IsSound, $"{name} with a byte more");
            File.WriteAllBytes(path, whole);
        }
    }

    [SkippableTheory]
    [InlineData("snapshot.json", 0.5)]
    [InlineData("device-state", 0.5)]
    [InlineData("memory", 0.0)]
    [InlineData("memory", 0.3)]
    [InlineData("memory", 0.999)]
    public async Task A_damaged_snapshot_is_named_by_the_command_and_never_runs(string name, double place)
    {
        Requirements.Need(Firmware);
        var whole = await File.ReadAllBytesAsync(Path.Combine(_snapshot, name));
        var at = (int)(whole.Length * place);
        if (place == 0.3)
            at = 4096 + 100; // within the first stored granule
        Write(name, at, (byte)(whole[at] ^ 0x40));

        var verified = await AgentProcess.RunAsync(Patience, "verify", _snapshot);
        Assert.True(verified.ExitCode == 5, verified.ToString());
        Assert.Contains(name, verified.StandardError, StringComparison.Ordinal);

        await using var target = await VirtualMachine.StartAsync(Firmware with { Incoming = "defer" });
        var error = await Record.ExceptionAsync(() =>
            Task.Run(() =>
                RestoreRun.Run(
                    new RestoreOptions
                    {
                        Directory = _snapshot,
                        Target = new MonitorAddress { QmpSocket = target.QmpSocket },
                    },
                    new StreamRestore(),
                    new RestoreProgress(),
                    CancellationToken.None
                )
            )
        );
        Assert.IsType<SnapshotCorruptException>(error);
        if (target.HasExited)
            return; // QEMU itself exits when its stream breaks off
        Assert.DoesNotContain(target.Qmp.Events, e => e.Name == "RESUME");
    }

    [SkippableFact]
    public async Task A_machine_that_does_not_fit_is_refused_and_every_difference_is_named()
    {
        Requirements.Need(Firmware);
        await RefusedAsync(Firmware, "running");
        await RefusedAsync(Firmware with { Incoming = "defer", Machine = "q35" }, "machine type pc-q35", "instead of pc-i440fx");
        await RefusedAsync(Firmware with { Incoming = "defer", MemoryMiB = 128 }, "RAM block pc.ram has 131072 KiB instead of 65536");
        Assert.Equal("running", await _source!.Qmp.RunStateAsync());
    }

    [SkippableFact]
    public async Task The_undamaged_snapshot_restores()
    {
        Requirements.Need(Firmware);
        await using var target = await VirtualMachine.StartAsync(Firmware with { Incoming = "defer" });
        var result = await AgentProcess.RunAsync(Patience, "restore", _snapshot, "--qmp", target.QmpSocket, "--mode=stream");
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Equal("running", await target.Qmp.RunStateAsync());
    }

    private async Task RefusedAsync(VirtualMachineOptions options, params string[] sentences)
    {
        await using var target = await VirtualMachine.StartAsync(options);
        var state = await target.Qmp.RunStateAsync();
        var result = await AgentProcess.RunAsync(Patience, "restore", _snapshot, "--qmp", target.QmpSocket, "--mode=stream");
        Assert.True(result.ExitCode == 3, result.ToString());
        var line = Assert.Single(result.StandardError.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        foreach (var sentence in sentences)
            Assert.Contains(sentence, line, StringComparison.Ordinal);
        Assert.Equal(state, await target.Qmp.RunStateAsync());
    }

    /// <summary>Places spread over the file; for the page log also header, index and footer.</summary>
    private static IEnumerable<int> Places(Random random, string name, int length)
    {
        var count = name == "memory" ? Flips - 200 : 100;
        for (var i = 0; i < count; i++)
            yield return (int)((long)length * i / count) + random.Next(Math.Max(1, length / count));
        if (name != "memory")
            yield break;
        foreach (var from in (int[])[0, length - 4096, length - 8192, length - 12288])
        {
            for (var i = 0; i < 10; i++)
                yield return from + random.Next(4096);
        }
    }

    private void Write(string name, int at, byte value)
    {
        using var file = File.OpenHandle(Path.Combine(_snapshot, name), FileMode.Open, FileAccess.Write);
        RandomAccess.Write(file, [value], at);
    }
}
