using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>Machines of 64 MiB without an operating system, their snapshots, and what a refusal must leave alone.</summary>
public abstract class SmallTargets : IDisposable
{
    protected string Folder { get; } = TestFolder.Create();

    protected static VirtualMachineOptions Firmware(QemuVersion version) =>
        new()
        {
            Version = version,
            MemoryMiB = 64,
            Guest = new FirmwareGuest(),
        };

    protected static VirtualMachineOptions Waiting(VirtualMachineOptions options, params string[] more) =>
        options with
        {
            Incoming = "defer",
            ExtraArguments = more,
        };

    protected string Image(long size)
    {
        var path = Path.Combine(Folder, $"image-{Guid.NewGuid():n}");
        using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);
        RandomAccess.SetLength(file, size);
        return path;
    }

    protected async Task<string> SnapshotAsync(VirtualMachineOptions options, string disks = "none")
    {
        await using var source = await Requirements.StartAsync(options);
        var snapshot = Path.Combine(Folder, "snapshot");
        var result = await AgentProcess.RunAsync(
            TimeSpan.FromSeconds(60),
            "capture",
            "--qmp",
            source.QmpSocket,
            "--output",
            snapshot,
            "--disks",
            disks
        );
        Assert.True(result.ExitCode == 0, result.ToString());
        return snapshot;
    }

    private protected static async Task AssertRefusedAsync(RestoreOutcome outcome, VirtualMachine target, string reason, string sentence)
    {
        ArgumentNullException.ThrowIfNull(target);
        Assert.True(outcome is { Process.ExitCode: 3 }, $"{outcome}\n{target.Describe()}");
        Assert.Equal(reason, outcome.Reason);
        Assert.Contains(sentence, outcome.Message, StringComparison.Ordinal);
        Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
    }

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }
}
