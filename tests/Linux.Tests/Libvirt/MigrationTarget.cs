using System.Globalization;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Libvirt;

/// <summary>
/// Another launcher on another node: a libvirtd to which a machine's domain migrates, peer to peer and over unix sockets, as KubeVirt does
/// through its proxies. Both share the storage.
/// </summary>
internal sealed class MigrationTarget : IAsyncDisposable
{
    private readonly LibvirtMachine _machine;
    private readonly string _folder = TestFolder.Create();
    private readonly SerialConsole _serial;
    private LibvirtDaemon? _daemon;

    private MigrationTarget(LibvirtMachine machine)
    {
        _machine = machine;
        _serial = new SerialConsole(QemuCommandLine.SerialSocket(_folder));
    }

    private LibvirtDaemon Daemon => _daemon ?? throw new InvalidOperationException("The target has not started.");

    private string Xml => Path.Combine(_folder, "domain.xml");

    public static async Task<MigrationTarget> StartAsync(LibvirtMachine machine)
    {
        MigrationTarget target = new(machine);
        try
        {
            target._daemon = await LibvirtDaemon.StartAsync(target._folder);
            // The same machine, with its serial port on another socket.
            var xml = await machine.Daemon.VirshAsync("dumpxml", LibvirtMachine.Name, "--migratable");
            await File.WriteAllTextAsync(
                target.Xml,
                xml.Replace(
                    QemuCommandLine.SerialSocket(machine.Folder),
                    QemuCommandLine.SerialSocket(target._folder),
                    StringComparison.Ordinal
                )
            );
            return target;
        }
        catch
        {
            await target.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts the domain's migration to this target.</summary>
    /// <param name="mebibytesPerSecond">The bandwidth limit; 0: no limit.</param>
    public Task<(int Code, string Output)> MigrateAsync(int mebibytesPerSecond = 0) =>
        _machine.Daemon.TryVirshAsync(
            "migrate",
            "--live",
            "--p2p",
            "--unsafe",
            "--xml",
            Xml,
            "--bandwidth",
            mebibytesPerSecond.ToString(CultureInfo.InvariantCulture),
            "--migrateuri",
            $"unix://{_folder}/run/migration",
            LibvirtMachine.Name,
            Daemon.Uri
        );

    /// <summary>Waits until QEMU itself has begun to migrate.</summary>
    /// <param name="migrating">The migration, which must not end before.</param>
    public async Task IsUnderWayAsync(Task<(int Code, string Output)> migrating)
    {
        while (
            (await _machine.AskAsync("query-migrate")) is var answer
            && !(answer.TryGetProperty("status", out var status) && status.GetString() == "active")
        )
            Assert.False(migrating.IsCompleted, migrating.IsCompleted ? $"{await migrating}" : "");
    }

    /// <summary>Asserts that the migration succeeds and that the guest continues on this target.</summary>
    public async Task TakesOverAsync(Task<(int Code, string Output)> migrating)
    {
        var (code, output) = await migrating;
        Assert.True(code == 0, $"{output}\n{_machine.Daemon.Log}\n{Daemon.Log}");
        var last = _machine.Serial.LatestReport!;
        var report = await LibvirtMachine.CountsOnAsync(Daemon, _serial, "migration");
        Assert.True(report.Tick > last.Tick, $"{report} after {last}");
        Assert.Empty(await _machine.Daemon.VirshAsync("list", "--all", "--name"));
    }

    public async ValueTask DisposeAsync()
    {
        if (_daemon is not null)
            await _daemon.DisposeAsync();
        _serial.Dispose();
        Directory.Delete(_folder, recursive: true);
    }
}
