using System.Text.Json;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>Runs captures of domains for tests.</summary>
internal static class LibvirtCaptures
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    public static VirtualMachineOptions Counting(RamKind ram = RamKind.Anonymous) =>
        new()
        {
            Version = QemuVersion.Unpacked10,
            Ram = ram,
            MemoryMiB = 192,
            Guest = new LinuxGuest
            {
                Writers = 3,
                MiB = 24,
                Fill = "random",
                TickMilliseconds = 100,
            },
        };

    /// <summary>Waits until every writer has completed one pass.</summary>
    public static Task<GuestReport> WarmUpAsync(LibvirtMachine machine) =>
        machine.Serial.WaitForReportAsync(r => r.Writes > 4 * 24 * 256 * 3, new CancellationTokenSource(Patience).Token);

    public static IEnumerable<string> ByName(LibvirtMachine machine) => ["--libvirt", machine.Daemon.Uri, "--domain", LibvirtMachine.Name];

    /// <summary>Runs a capture until the agent exits.</summary>
    public static async Task<AgentResult> RunAsync(LibvirtMachine machine, string name, string? hook, params IEnumerable<string> arguments)
    {
        await using var family = await CaptureFamily.StartAsync(
            hook,
            ["--output", Path.Combine(machine.Outputs, name), "--engine=agent", .. arguments]
        );
        return await family.WaitAsync(Patience);
    }

    /// <summary>Runs a capture that must succeed.</summary>
    public static async Task<CaptureNumbers> SucceedAsync(
        LibvirtMachine machine,
        string name,
        string? hook,
        params IEnumerable<string> arguments
    ) => Summary(await RunAsync(machine, name, hook, arguments), machine);

    public static CaptureNumbers Summary(AgentResult result, LibvirtMachine machine)
    {
        Assert.True(result.ExitCode == 0, $"{result}\n{machine.Daemon.Log}");
        var line = result.StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries).Last();
        return JsonSerializer.Deserialize<JsonElement>(line).GetProperty("summary").Deserialize<CaptureNumbers>(JsonSerializerOptions.Web)!;
    }

    /// <summary>Asserts that a snapshot's memory is of one instant, then deletes the snapshot.</summary>
    public static void AssertOneCut(CaptureNumbers snapshot, bool keep = false)
    {
        var verdict = SnapshotImage.Judge(snapshot.Output);
        Assert.True(verdict.IsOneCut && verdict.Writers.Count == 3, $"{verdict}\n{snapshot}");
        if (!keep)
            Directory.Delete(snapshot.Output, recursive: true);
    }
}
