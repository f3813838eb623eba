using System.Globalization;
using System.Text.Json;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>
/// A real qemu-ga, whose channel belongs to libvirt, freezes a real ext4; however a capture ends, the guest's programs write on.
/// </summary>
public sealed class LibvirtQuiesceTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("bgsnap-quiesce-");

    public void Dispose() => _folder.Delete(recursive: true);

    [SkippableFact]
    public async Task A_quiesced_file_system_needs_no_replay()
    {
        await using var machine = await AdmitAsync();
        var before = await LibvirtTraces.TakeAsync(machine);

        var quiesced = await LibvirtCaptures.RunAsync(machine, "quiesced", null, Arguments(machine, "required"));
        var other = await LibvirtCaptures.RunAsync(machine, "other", null, Arguments(machine, "never"));

        Assert.Equal(("GuestAgent", "Online"), (QuiesceOf(quiesced), QuiesceOf(other)));
        Assert.DoesNotContain("needs_recovery", await FeaturesAsync(LibvirtCaptures.Summary(quiesced, machine)), StringComparison.Ordinal);
        // The check must be able to fail.
        Assert.Contains("needs_recovery", await FeaturesAsync(LibvirtCaptures.Summary(other, machine)), StringComparison.Ordinal);
        await WritesOnAsync(machine, "captures");
        await before.AssertAsBeforeAsync(machine, "captures");
    }

    [SkippableTheory]
    [InlineData("instant")]
    [InlineData("stream")]
    public async Task A_guest_that_was_captured_frozen_is_thawed_by_its_restore(string mode)
    {
        await using var machine = await AdmitAsync();
        var snapshot = LibvirtCaptures.Summary(
            await LibvirtCaptures.RunAsync(machine, "quiesced", null, Arguments(machine, "required")),
            machine
        );
        await using var target = await LibvirtMachine.StartAsync(await OptionsAsync(), "-incoming", "defer");

        var result = await AgentProcess.RunAsync(
            Patience,
            "restore",
            snapshot.Output,
            "--pid",
            target.Pid.ToString(CultureInfo.InvariantCulture),
            "--mode",
            mode
        );

        Assert.True(
            result.ExitCode == 0 && result.StandardOutput.Contains("1 file systems thawed", StringComparison.Ordinal),
            $"{result}\n{target.Daemon.Log}"
        );
        Assert.Equal("thawed", await StatusAsync(target));
        using CancellationTokenSource limit = new(Patience);
        _ = await target.Serial.WaitForReportAsync(r => true, limit.Token);
        await WritesOnAsync(target, "restore");
    }

    [SkippableTheory]
    [InlineData("kill:frozen", false)]
    [InlineData("kill:stopped", false)]
    [InlineData("stop:frozen", true)]
    public async Task A_guest_thaws_when_the_capture_dies_in_the_middle(string hook, bool parentToo)
    {
        await using var machine = await AdmitAsync();
        var before = await LibvirtTraces.TakeAsync(machine);
        await using var family = await CaptureFamily.StartAsync(
            hook,
            ["--engine=agent", "--output", Path.Combine(machine.Outputs, "s"), .. Arguments(machine, "required")]
        );
        Assert.True(await family.FindWorkerAsync());
        if (parentToo)
        {
            while (await StatusAsync(machine) != "frozen")
                Assert.False(family.HasEnded, family.Output);
            family.Signal(HarnessLibc.SigKill);
            family.SignalWorker(HarnessLibc.SigKill);
        }

        await family.WaitAsync(Patience);
        if (parentToo)
        {
            Assert.Equal("frozen", await StatusAsync(machine));
            foreach (var left in Directory.EnumerateDirectories(machine.Outputs))
                Directory.Delete(left, recursive: true);
            var next = await LibvirtCaptures.RunAsync(machine, "next", null, Arguments(machine, "required"));
            Assert.Equal("GuestAgent", QuiesceOf(next));
            Directory.Delete(LibvirtCaptures.Summary(next, machine).Output, recursive: true);
        }

        await WritesOnAsync(machine, hook);
        Assert.Equal("thawed", await StatusAsync(machine));
        await before.AssertAsBeforeAsync(machine, hook);
    }

    [SkippableFact]
    public async Task A_domain_without_a_guest_agent_is_captured_without_a_freeze()
    {
        await using var machine = await LibvirtMachine.StartAsync(LibvirtCaptures.Counting());

        var went = await LibvirtCaptures.RunAsync(machine, "went", null, [.. LibvirtCaptures.ByName(machine), "--disks=none"]);
        var refused = await LibvirtCaptures.RunAsync(
            machine,
            "refused",
            null,
            [.. LibvirtCaptures.ByName(machine), "--disks=none", "--quiesce=required"]
        );

        Assert.Equal("NoGuestAgent", QuiesceOf(went));
        Assert.True(
            CaptureFamily.ErrorOf(refused) is { Reason: "QuiesceFailed", ExitCode: 3 } error
                && error.Message.Contains("not configured", StringComparison.Ordinal),
            refused.ToString()
        );
        await machine.CountsOnAsync("refusal");
    }

    private async Task<LibvirtMachine> AdmitAsync()
    {
        var machine = await LibvirtMachine.StartAsync(await OptionsAsync());
        using CancellationTokenSource limit = new(Patience);
        while ((await machine.Daemon.TryVirshAsync("qemu-agent-command", LibvirtMachine.Name, """{"execute":"guest-ping"}""")).Code != 0)
            await Task.Delay(200, limit.Token);
        return machine;
    }

    private async Task<VirtualMachineOptions> OptionsAsync() =>
        Ext4Machine.Options(QemuVersion.Unpacked10, DiskFormat.Raw, await Ext4Machine.MakeImageAsync(_folder.FullName), agent: true);

    private static IEnumerable<string> Arguments(LibvirtMachine machine, string quiesce) =>
        [.. LibvirtCaptures.ByName(machine), "--disks=all", "--scratch", machine.Folder, $"--quiesce={quiesce}"];

    private static async Task<string?> StatusAsync(LibvirtMachine machine)
    {
        var (code, output) = await machine.Daemon.TryVirshAsync(
            "qemu-agent-command",
            LibvirtMachine.Name,
            """{"execute":"guest-fsfreeze-status"}"""
        );
        return code == 0 ? JsonSerializer.Deserialize<JsonElement>(output).GetProperty("return").GetString() : null;
    }

    private static async Task WritesOnAsync(LibvirtMachine machine, string after)
    {
        var disk = machine.Serial.LatestReport!.Disk;
        using CancellationTokenSource limit = new(Patience);
        var report = await machine.Serial.WaitForReportAsync(r => r.Disk > disk, limit.Token);
        Assert.True(report.Corrupt == 0, $"{after}: {report}");
        await machine.CountsOnAsync(after);
    }

    private static async Task<string> FeaturesAsync(CaptureNumbers snapshot)
    {
        var raw = await SnapshotDisks.ToRawAsync(
            snapshot.Output,
            Assert.Single(SnapshotDisks.Of(snapshot.Output), d => d.File is not null)
        );
        var features = await Tool.RunAsync("dumpe2fs", "-h", raw);
        File.Delete(raw);
        Directory.Delete(snapshot.Output, recursive: true);
        return features;
    }

    private static string? QuiesceOf(AgentResult result) =>
        result.ExitCode != 0
            ? result.ToString()
            : JsonSerializer
                .Deserialize<JsonElement>(result.StandardOutput.Split('\n', StringSplitOptions.RemoveEmptyEntries).Last())
                .GetProperty("summary")
                .GetProperty("quiesce")
                .GetString();
}
