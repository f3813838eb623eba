using System.Text.Json;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>Machines for restores whose memory follows the guest, and the checks afterwards.</summary>
internal static class InstantMachines
{
    private const int Writers = 3,
        WriterMiB = 24,
        PagesOfMiB = 256;

    /// <summary>A guest that checks its own memory, which is all data; there is enough of it that the restore takes a while.</summary>
    public static VirtualMachineOptions Checking(QemuVersion version, string machine, RamKind ram) =>
        new()
        {
            Version = version,
            Machine = machine,
            Ram = ram,
            MemoryMiB = 256,
            Guest = new LinuxGuest
            {
                Writers = Writers,
                MiB = WriterMiB,
                Fill = "random",
            },
        };

    /// <summary>The same with a balloon that its guest obeys, and memory that the guest gives back on command.</summary>
    public static VirtualMachineOptions Ballooning(QemuVersion version, RamKind ram, int spareMiB = 0, string? property = null)
    {
        var options = Checking(version, "q35", ram);
        return options with
        {
            // A kernel that clears memory on allocation would touch each page before the balloon discards it.
            Guest = (LinuxGuest)options.Guest with
            {
                Balloon = true,
                SpareMiB = spareMiB,
                Append = "init_on_alloc=0",
            },
            ExtraArguments = ["-device", $"virtio-balloon-pci,id=balloon{(property is null ? "" : $",{property}")}"],
        };
    }

    /// <summary>Inflates the guest's balloon until the guest has only this much memory left, and waits for that.</summary>
    public static async Task InflateAsync(VirtualMachine machine, int leaveMiB)
    {
        await machine.Qmp.ExecuteAsync("balloon", new() { ["value"] = (long)leaveMiB << 20 });
        for (var end = DateTime.UtcNow + TimeSpan.FromSeconds(60); ; await Task.Delay(20))
        {
            var actual = (await machine.Qmp.ExecuteAsync("query-balloon")).GetProperty("actual").GetInt64();
            if (actual == (long)leaveMiB << 20)
                return;
            Assert.True(DateTime.UtcNow < end, $"the guest has {actual >> 20} MiB still\n{machine.Describe()}");
        }
    }

    /// <summary>A machine whose memory is written only by its firmware and by <see cref="WriteWithHolesAsync"/>.</summary>
    public static VirtualMachineOptions Bare(QemuVersion version, RamKind ram) =>
        new()
        {
            Version = version,
            Ram = ram,
            Machine = "q35",
            MemoryMiB = 256,
            Guest = new FirmwareGuest(),
        };

    /// <summary>Stops a bare machine and writes single pages, and ranges with holes, at both ends of granules and huge pages.</summary>
    public static async Task WriteWithHolesAsync(VirtualMachine source)
    {
        await source.StopVcpusAsync();
        using var memory = await source.OpenMemoryAsync();
        foreach (var at in (long[])[0x200000, 0x20f000, 0x210000, 0x3ff000, 0x400000, 200 << 20, (256 << 20) - 4096])
            memory.Write(at, [.. Enumerable.Range(0, 4096).Select(i => (byte)(i + at / 4096 + 1))]);
    }

    /// <summary>Takes a snapshot of a guest that has completed one pass, and ends the guest.</summary>
    public static async Task<string> SnapshotAsync(VirtualMachine source, params IEnumerable<string> options)
    {
        if (source.Options.Guest is LinuxGuest)
            await Machines.WarmUpAsync(source);
        var snapshot = await Agent.CaptureAsync(source, "snapshot", options);
        await source.StopVcpusAsync();
        return snapshot.Output;
    }

    /// <summary>Starts an instant restore.</summary>
    public static Task<AgentProcess> StartAsync(string snapshot, VirtualMachine target, params IEnumerable<string> options) =>
        StartAsync(null, snapshot, target, options);

    /// <inheritdoc cref="StartAsync(string, VirtualMachine, IEnumerable{string})"/>
    public static Task<AgentProcess> StartAsync(
        IReadOnlyDictionary<string, string>? environment,
        string snapshot,
        VirtualMachine target,
        params IEnumerable<string> options
    ) => AgentProcess.StartAsync(environment, ["restore", snapshot, "--qmp", target.QmpSocket, "--mode=instant", "--json", .. options]);

    /// <summary>Starts an instant restore, and waits until the guest runs.</summary>
    public static async Task<AgentProcess> RunAsync(string snapshot, VirtualMachine target, params IEnumerable<string> options)
    {
        var agent = await StartAsync(snapshot, target, options);
        try
        {
            await agent.WaitForOutputAsync("\"phase\":\"Running\"", InstantPair.Patience);
            return agent;
        }
        catch
        {
            await agent.DisposeAsync();
            throw;
        }
    }

    /// <summary>Restores instantly into a new machine, and returns the agent's result.</summary>
    public static async Task<RestoreOutcome> RestoreAsync(string snapshot, VirtualMachine target, params IEnumerable<string> options)
    {
        var outcome = await RestoreOutcome.OfAsync(snapshot, target, ["--mode=instant", .. options]);
        Assert.True(outcome.Process.ExitCode == 0, $"{outcome}\n{target.Describe()}");
        Assert.Equal("instant", outcome.Last.GetProperty("method").GetString());
        return outcome;
    }

    public static JsonElement InstantOf(RestoreOutcome outcome) => outcome.Last.GetProperty("instant");

    /// <summary>Asserts that the restore has left nothing in QEMU: no userfaultfd, no map, no registered memory.</summary>
    public static void AssertNothingIsLeft(VirtualMachine target)
    {
        Assert.Empty(Left(target));
        // VmFlags um: a range whose missing pages are registered on a userfaultfd.
        Assert.DoesNotContain(File.ReadLines($"/proc/{target.Pid}/smaps"), l =>
            l.StartsWith("VmFlags:", StringComparison.Ordinal) && l.Contains(" um", StringComparison.Ordinal)
        );
    }

    /// <summary>The restore's descriptors that QEMU still holds.</summary>
    public static IEnumerable<string> Left(VirtualMachine target) =>
        Directory
            .EnumerateFiles($"/proc/{target.Pid}/fd")
            .Select(f => new FileInfo(f).LinkTarget ?? "")
            .Where(l => l.Contains("userfaultfd]", StringComparison.Ordinal) || l.Contains("bgsnap-instant", StringComparison.Ordinal));

    /// <summary>Asserts that the guest of <see cref="Checking"/> has checked every page that it had filled, and found no error.</summary>
    public static Task AssertAllOfItIsRightAsync(VirtualMachine target) =>
        AssertAllOfItIsRightAsync(target, Writers * WriterMiB * PagesOfMiB);

    /// <summary>Asserts that the guest has checked every page that it had filled, and found no error.</summary>
    public static async Task AssertAllOfItIsRightAsync(VirtualMachine target, int pages)
    {
        var first = await target.WaitForTickAsync(1);
        var last = await target.WaitForReportAsync(r => r.Writes - first.Writes > 2 * pages, "two rounds through all pages");
        Assert.True(last.Corrupt == 0 && first.Corrupt == 0, target.Describe());
    }
}
