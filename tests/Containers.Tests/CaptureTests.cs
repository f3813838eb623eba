using System.Text.Json;
using Bgsnap.Containers.Tests.Harness;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.Containers.Tests;

/// <summary>The agent on the host, QEMU in a Docker container: no Kubernetes needed.</summary>
[Collection(nameof(DockerEngine))]
public sealed class CaptureTests(EngineFixture engine) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("bgsnap-containers-").FullName;

    [SkippableFact]
    public async Task A_guest_in_a_container_is_captured_from_the_host_and_counts_on_in_another_container()
    {
        engine.Need();
        await using var source = await VmContainer.StartAsync(engine);
        await LockedInAsync(source);
        var before = await source.CountsOnAsync();

        var directory = Path.Join(_folder, "snapshot");
        var said = (await Command.RunAsync(Repository.Agent, ["capture", "--qmp", source.QmpSocket, "--output", directory, "--json"])).Ok();
        var after = (await source.ReportsAsync())[^1];

        // Our engine: the seccomp profile and the missing privileges of QEMU do not keep the agent out.
        var summary = JsonSerializer.Deserialize<JsonElement>(said.Trim().Split('\n')[^1]);
        Assert.Equal("summary", summary.GetProperty("type").GetString());
        Assert.Equal("agent", summary.GetProperty("summary").GetProperty("engine").GetString());
        (await Command.RunAsync(Repository.Agent, ["verify", directory])).Ok();
        var now = await source.CountsOnAsync();
        Assert.True(now.Tick > after.Tick, $"{now} is not after {after}");

        await using var target = await VmContainer.StartAsync(engine, incoming: true);
        (await Command.RunAsync(Repository.Agent, ["restore", directory, "--qmp", target.QmpSocket, "--mode=stream"])).Ok();
        await target.CountsOnAsync();
        // It goes on from the point in time, not from a boot and not from where the source is by now.
        Assert.InRange((await target.ReportsAsync())[0].Tick, before.Tick, after.Tick + 1);
        await source.CountsOnAsync();
    }

    /// <summary>What the test's name for a container promises, by the engine's word and the kernel's.</summary>
    private async Task LockedInAsync(VmContainer vm)
    {
        Assert.False(vm.Inspected.HostConfig!.Privileged);
        Assert.DoesNotContain(vm.Inspected.HostConfig.SecurityOpt ?? [], o => o.Contains("seccomp", StringComparison.Ordinal));
        Assert.Contains((await engine.Client.System.GetSystemInfoAsync()).SecurityOptions, o =>
            o is "name=seccomp,profile=default" or "name=seccomp,profile=builtin"
        );
        Assert.Equal("107\t107\t107\t107", await vm.StatusAsync("Uid"));
        Assert.Equal("0000000000000000", await vm.StatusAsync("CapPrm"));
        Assert.Equal("0000000000000000", await vm.StatusAsync("CapBnd"));
        Assert.Equal("1", await vm.StatusAsync("NoNewPrivs"));
        // Docker's filter and the one of QEMU's own -sandbox.
        Assert.Equal("2", await vm.StatusAsync("Seccomp"));
        Assert.True(int.Parse(await vm.StatusAsync("Seccomp_filters"), System.Globalization.CultureInfo.InvariantCulture) >= 2);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
