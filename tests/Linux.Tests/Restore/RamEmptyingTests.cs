using System.Globalization;
using Bgsnap.Engine.Restore;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>The agent empties the RAM of a waiting QEMU, and QEMU keeps waiting.</summary>
public class RamEmptyingTests
{
    private const int MiB = 64;

    [SkippableTheory]
    [InlineData(QemuVersion.System, Harness.RamKind.Anonymous)]
    [InlineData(QemuVersion.System, Harness.RamKind.Memfd)]
    [InlineData(QemuVersion.Unpacked10, Harness.RamKind.Anonymous)]
    [InlineData(QemuVersion.Unpacked10, Harness.RamKind.Memfd)]
    public async Task Preallocated_memory_is_gone(QemuVersion version, Harness.RamKind ram)
    {
        VirtualMachineOptions options = new()
        {
            Version = version,
            Ram = ram,
            MemoryMiB = MiB,
            Guest = new FirmwareGuest(),
            Incoming = "defer",
            ExtraArguments = ["-mem-prealloc"],
        };
        await using var target = await Requirements.StartAsync(options);
        using var qmp = QmpClient.Connect(target.QmpSocket);
        using var process = CheckedProcess.Open(target.Pid);
        var block = RamBlockTable.Read(qmp, process).Single(b => b.UsedLength == (ulong)MiB << 20);
        var before = ResidentKibibytes(target.Pid);

        RemoteThread.Hold(process, SyscallGadget.Find(process), thread => RamEmptying.Empty(thread, [block]));

        Assert.True(
            before - ResidentKibibytes(target.Pid) > (MiB - 4) << 10,
            $"{before} KiB before, {ResidentKibibytes(target.Pid)} KiB after"
        );
        Assert.Equal("inmigrate", await target.Qmp.RunStateAsync());
    }

    private static long ResidentKibibytes(int pid) =>
        File.ReadLines($"/proc/{pid}/status")
            .Where(l => l.StartsWith("RssShmem:", StringComparison.Ordinal) || l.StartsWith("RssAnon:", StringComparison.Ordinal))
            .Sum(l => long.Parse(l.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2], CultureInfo.InvariantCulture));
}
