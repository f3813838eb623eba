using Bgsnap.Containers.Tests.Harness;
using Bgsnap.E2E.Tests.Harness;
using Testcontainers.K3s;

namespace Bgsnap.Containers.Tests;

/// <summary>The main path of tests/E2E.Tests on another Kubernetes: K3s in a container, where its image can be had.</summary>
[Collection(nameof(DockerEngine))]
public sealed class K3sTests(EngineFixture engine)
{
    private const string Image = "rancher/k3s:v1.34.1-k3s1";
    private const string ConfigInside = "/bgsnap-config";
    private static readonly TimeSpan PullLimit = TimeSpan.FromMinutes(5);

    [SkippableFact]
    public async Task A_snapshot_becomes_Ready_on_K3s()
    {
        engine.Need();
        await PullAsync();
        Skip.If(
            engine.IsOurs,
            "the engine that the tests start has no network for containers, which K3s needs: name another with DOCKER_HOST"
        );
        Directory.CreateDirectory(Lab.Root);
        // The claims of a lab are directories of the node: the same path here and there.
        await using var k3s = new K3sBuilder(Image).WithBindMount(Lab.Root, Lab.Root).Build();
        await k3s.StartAsync();
        await InstallAsync(k3s);
        var kubeconfig = Path.GetTempFileName();
        try
        {
            await File.WriteAllTextAsync(kubeconfig, await k3s.GetKubeconfigAsync());
            var cluster = ClusterFixture.Of(new Kubectl(kubeconfig));
            await cluster.InstalledAsync();
            await ReadyAsync(cluster);
        }
        finally
        {
            File.Delete(kubeconfig);
        }
    }

    private static async Task ReadyAsync(ClusterFixture cluster)
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var claim = await lab.ClaimAsync();
        await lab.StartVmAsync();
        await lab.ApplyAsync(Lab.Snapshot("one"));
        var snapshot = await lab.ReadyAsync("one");
        (await Command.RunAsync(Repository.Agent, ["verify", Path.Join(claim, snapshot["status"]!["directory"]!.GetValue<string>())])).Ok();
        await lab.CountsAsync("vm");
        await lab.NoHelpersAsync();
    }

    /// <summary>Installs as docs/install.md says, with the kubectl that K3s brings.</summary>
    private static async Task InstallAsync(K3sContainer k3s)
    {
        foreach (var name in (string[])["agent", "operator", "test-vm"])
        {
            var inside = $"/tmp/{name}.tar";
            await k3s.CopyAsync(new FileInfo(await EngineFixture.ImageAsync(name)), "/tmp");
            await ExecAsync(k3s, "ctr", "-n", "k8s.io", "images", "import", inside);
        }
        await k3s.CopyAsync(new DirectoryInfo(Path.Join(Repository.Root, "config")), ConfigInside);
        await ExecAsync(k3s, "kubectl", "apply", "--server-side", "-k", ConfigInside + "/default");
    }

    private static async Task ExecAsync(K3sContainer container, params string[] command)
    {
        var result = await container.ExecAsync(command);
        Assert.True(result.ExitCode == 0, $"{string.Join(' ', command)}: exit code {result.ExitCode}\n{result.Stdout}\n{result.Stderr}");
    }

    /// <summary>Skips the test, with the engine's reason, where the image is neither here nor to be had.</summary>
    private async Task PullAsync()
    {
        using var limit = new CancellationTokenSource(PullLimit);
        try
        {
            var client = engine.Client.Images;
            if ((await client.ListImagesAsync(new() { All = true }, limit.Token)).Any(i => i.RepoTags?.Contains(Image) == true))
                return;
            var (name, tag) = (
                Image[..Image.IndexOf(':', StringComparison.Ordinal)],
                Image[(Image.IndexOf(':', StringComparison.Ordinal) + 1)..]
            );
            await client.CreateImageAsync(
                new() { FromImage = name, Tag = tag },
                null,
                new Progress<Docker.DotNet.Models.JSONMessage>(),
                limit.Token
            );
            await client.InspectImageAsync(Image, limit.Token);
        }
        catch (Exception e) when (e is Docker.DotNet.DockerApiException or HttpRequestException or OperationCanceledException)
        {
            Skip.If(true, $"{Image} cannot be pulled: {e.Message}");
        }
    }
}
