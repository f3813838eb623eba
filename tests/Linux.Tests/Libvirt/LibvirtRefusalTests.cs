using System.Net.Sockets;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>The agent refuses what it cannot capture with a reason, and leaves it as it was.</summary>
public class LibvirtRefusalTests
{
    [SkippableFact]
    public async Task Refusals_name_their_reason_and_leave_no_trace()
    {
        await using var machine = await LibvirtMachine.StartAsync(
            DiskMachines.Writing(QemuVersion.Unpacked10, new TestDisk { Name = "vda", IsFull = true }) with
            {
                MemoryMiB = 128,
            }
        );
        var before = await LibvirtTraces.TakeAsync(machine);
        string[] ours = [.. LibvirtCaptures.ByName(machine)],
            withDisks = [.. ours, "--scratch", machine.Folder];

        await RefusesAsync("QemuUnreachable", "no domain with matching name", "--libvirt", machine.Daemon.Uri, "--domain", "another");
        await RefusesAsync(
            "QemuUnreachable",
            "No such file",
            "--libvirt",
            "qemu+unix:///session?socket=/nowhere",
            "--domain",
            LibvirtMachine.Name
        );
        await RefusesAsync(
            "BadArgument",
            "the agent must run where QEMU does",
            "--libvirt",
            "qemu+ssh://host/system",
            "--domain",
            LibvirtMachine.Name
        );
        await RefusesAsync(
            "ForeignProcess",
            "is not the QEMU of libvirt's domain",
            [.. ours, "--pid", Environment.ProcessId.ToString(System.Globalization.CultureInfo.InvariantCulture)]
        );
        await RefusesAsync(
            "NoMonitor",
            "--qmp",
            "--pid",
            Environment.ProcessId.ToString(System.Globalization.CultureInfo.InvariantCulture)
        );

        var nbd = Path.Combine(machine.Folder, "run/nbd");
        await machine.AskAsync("nbd-server-start", """{"addr":{"type":"unix","data":{"path":"/run/nbd"}}}""");
        await RefusesAsync("NbdServerBusy", "try again when that has ended", withDisks);
        await machine.AskAsync("nbd-server-stop");
        Assert.False(File.Exists(nbd));

        var node = (await machine.AskAsync("query-block"))[0].GetProperty("inserted").GetProperty("node-name").GetString();
        var copy = Path.Combine(machine.Folder, "run/copy");
        await File.WriteAllBytesAsync(copy, new byte[16 << 20]);
        await Tool.RunAsync("chown", "107", copy);
        await machine.AskAsync("blockdev-add", """{"driver":"raw","node-name":"copy","file":{"driver":"file","filename":"/run/copy"}}""");
        await machine.AskAsync("blockdev-mirror", $$"""{"job-id":"theirs","device":"{{node}}","target":"copy","sync":"full","speed":1}""");
        await RefusesAsync("BlockJobActive", "job theirs", withDisks);
        await machine.AskAsync("block-job-cancel", """{"device":"theirs","force":true}""");
        while ((await machine.AskAsync("query-jobs")).GetArrayLength() > 0)
            await Task.Delay(20);
        await machine.AskAsync("blockdev-del", """{"node-name":"copy"}""");

        // A migration to a target that does not listen.
        var path = Path.Combine(machine.Folder, "run/migration");
        using Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(1);
        await Tool.RunAsync("chown", "107", path);
        await machine.AskAsync("migrate", """{"uri":"unix:/run/migration"}""");
        await RefusesAsync("MigrationActive", "try again when the migration has ended", ours);
        await machine.AskAsync("migrate_cancel");
        while ((await machine.AskAsync("query-migrate")).GetProperty("status").GetString() != "cancelled")
            await Task.Delay(20);

        await machine.CountsOnAsync("refusals");
        await before.AssertAsBeforeAsync(machine, "refusals");

        async Task RefusesAsync(string reason, string message, params IEnumerable<string> arguments)
        {
            var result = await LibvirtCaptures.RunAsync(machine, "refused", null, arguments);
            var error = CaptureFamily.ErrorOf(result);
            Assert.True(error?.Reason == reason && error.Message.Contains(message, StringComparison.Ordinal), $"{reason}: {result}");
        }
    }
}
