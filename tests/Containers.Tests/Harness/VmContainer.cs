using System.Globalization;
using Bgsnap.Linux.Tests.Harness;
using Docker.DotNet;
using Docker.DotNet.Models;
using DotNet.Testcontainers.Builders;
using DotNet.Testcontainers.Containers;

namespace Bgsnap.Containers.Tests.Harness;

/// <summary>
/// QEMU in a container, locked in as a pod of docs/examples is: uid 107, no capabilities, no new privileges, Docker's default seccomp
/// profile, nothing writable but /run/vm, no network.
/// </summary>
internal sealed class VmContainer : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);
    private readonly IContainer _container;

    private VmContainer(IContainer container, ContainerInspectResponse inspected) => (_container, Inspected) = (container, inspected);

    /// <summary>What the engine says of it.</summary>
    internal ContainerInspectResponse Inspected { get; }

    /// <summary>QEMU, as this machine numbers it.</summary>
    internal long Pid => Inspected.State!.Pid;

    /// <summary>QEMU's socket, through the root of its process.</summary>
    internal string QmpSocket => $"/proc/{Pid.ToString(CultureInfo.InvariantCulture)}/root/run/vm/qmp.sock";

    /// <param name="engine">Where.</param>
    /// <param name="incoming">It waits for a restore instead of booting.</param>
    internal static async Task<VmContainer> StartAsync(EngineFixture engine, bool incoming = false)
    {
        var builder = new ContainerBuilder(EngineFixture.VmImage)
            .WithImagePullPolicy(_ => false)
            .WithEnvironment("VM_INCOMING", incoming ? "defer" : "")
            .WithCreateParameterModifier(p =>
            {
                p.User = "107:107";
                p.HostConfig ??= new HostConfig();
                p.HostConfig.CapDrop = ["ALL"];
                p.HostConfig.SecurityOpt = ["no-new-privileges"];
                p.HostConfig.ReadonlyRootfs = true;
                p.HostConfig.Tmpfs = new Dictionary<string, string> { ["/run/vm"] = "uid=107,gid=107,mode=0700" };
                p.HostConfig.NetworkMode = "none";
                p.HostConfig.Memory = 512L << 20;
            });
        var container = builder.Build();
        try
        {
            await container.StartAsync();
            var vm = new VmContainer(container, await engine.Client.Containers.InspectContainerAsync(container.Id));
            // An engine in a virtual machine of its own has sockets here, and processes elsewhere.
            Skip.IfNot(
                File.Exists($"/proc/{vm.Pid}/cgroup")
                    && (await File.ReadAllTextAsync($"/proc/{vm.Pid}/cgroup")).Contains(container.Id, StringComparison.Ordinal),
                "the processes of this engine's containers are not seen here: DOCKER_HOST is not on this machine"
            );
            await vm.UntilAsync("its socket", () => Task.FromResult(File.Exists(vm.QmpSocket)));
            return vm;
        }
        catch
        {
            await container.DisposeAsync();
            throw;
        }
    }

    /// <summary>Every line of its log in which the guest counts.</summary>
    internal async Task<List<GuestReport>> ReportsAsync()
    {
        var (output, _) = await _container.GetLogsAsync(timestampsEnabled: false);
        return [.. output.Split('\n').SkipLast(1).Select(l => GuestReport.Parse(l.Trim(), 0)).OfType<GuestReport>()];
    }

    /// <summary>Waits until the guest has counted on for a few ticks, and found nothing corrupt.</summary>
    internal async Task<GuestReport> CountsOnAsync()
    {
        const int Ticks = 3;
        var began = (await ReportsAsync()).LastOrDefault()?.Tick ?? 0;
        GuestReport? last = null;
        await UntilAsync($"a guest that counts on from {began}", async () =>
        {
            last = (await ReportsAsync()).LastOrDefault();
            return last?.Tick >= began + Ticks;
        });
        Assert.Equal(0, last!.Corrupt);
        Assert.True(last.Checked > 0, $"the guest checked nothing: {last}");
        return last;
    }

    /// <summary>A word of the kernel about QEMU: /proc/PID/status.</summary>
    internal async Task<string> StatusAsync(string key) =>
        (await File.ReadAllLinesAsync($"/proc/{Pid}/status"))
            .First(l => l.StartsWith(key + ":", StringComparison.Ordinal))[(key.Length + 1)..]
            .Trim();

    public ValueTask DisposeAsync() => _container.DisposeAsync();

    private async Task UntilAsync(string what, Func<Task<bool>> come)
    {
        for (var end = DateTime.UtcNow + Patience; !await come(); await Task.Delay(100))
        {
            if (DateTime.UtcNow <= end && Directory.Exists($"/proc/{Pid}"))
                continue;
            var (output, error) = await _container.GetLogsAsync();
            throw new TimeoutException($"{what}: not within {Patience.TotalSeconds} s, or QEMU ended\n{output}\n{error}");
        }
    }
}
