using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Bgsnap.E2E.Tests.Harness;
using Docker.DotNet;
using Docker.DotNet.Models;
using DotNet.Testcontainers.Configurations;

namespace Bgsnap.Containers.Tests.Harness;

/// <summary>All tests share one engine; they run one after the other.</summary>
[CollectionDefinition(nameof(DockerEngine))]
public sealed class DockerEngine : ICollectionFixture<EngineFixture>;

/// <summary>
/// A Docker engine of this machine: the one at DOCKER_HOST (or at its usual socket), else one that is started for the tests. Its
/// containers' processes are seen from here, as a node agent sees those of its node.
/// </summary>
public sealed class EngineFixture : IAsyncLifetime
{
    private const string UsualHost = "unix:///var/run/docker.sock";
    private static readonly TimeSpan ImagesLimit = TimeSpan.FromMinutes(20);
    private PrivateEngine? _private;

    /// <summary>The image that hack/images makes of QEMU and a guest that counts.</summary>
    public const string VmImage = "bgsnap/test-vm:dev";

    /// <summary>The engine's own client, for what Testcontainers does not offer.</summary>
    public DockerClient Client { get; private set; } = null!;

    /// <summary>Why there is no engine, or null.</summary>
    public string? Missing { get; private set; }

    /// <summary>Whether the engine was started by us. It has no network for containers.</summary>
    public bool IsOurs => _private is not null;

    public async Task InitializeAsync()
    {
        if (Environment.UserName != "root")
        {
            Missing = "needs root: to start an engine, and to reach into a container from the host";
            return;
        }
        var host = Environment.GetEnvironmentVariable("DOCKER_HOST") is { Length: > 0 } given ? given : UsualHost;
        var version = await AskVersionAsync(host);
        if (version is null)
        {
            host = (_private = await PrivateEngine.StartAsync()).Host;
            version = await AskVersionAsync(host) ?? throw new InvalidOperationException($"the engine at {host} does not answer");
        }
        // The library speaks the newest version it knows, whatever the engine does; Debian's is older.
        Environment.SetEnvironmentVariable("DOCKER_API_VERSION", version);
        Environment.SetEnvironmentVariable("DOCKER_HOST", host);
        Client = Connect();
        await LoadAsync("test-vm");
    }

    public async Task DisposeAsync()
    {
        Client?.Dispose();
        if (_private is not null)
            await _private.DisposeAsync();
    }

    /// <summary>Skips where there can be no engine.</summary>
    public void Need() => Skip.If(Missing is not null, Missing);

    /// <summary>The archive of one of our images, built now if it is not there.</summary>
    public static async Task<string> ImageAsync(string name)
    {
        var archive = Path.Join(Repository.Root, "out", "images", name + ".tar");
        if (!File.Exists(archive))
            await ClusterFixture.ScriptAsync("hack/images", ImagesLimit, name);
        return archive;
    }

    // A method of its own: the library looks for its engine when its settings are first touched, which may be as early as a method
    // that names them begins.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static DockerClient Connect()
    {
        // The reaper is an image that would have to be pulled; what we start, we end.
        TestcontainersSettings.ResourceReaperEnabled = false;
        return TestcontainersSettings.OS.DockerEndpointAuthConfig.GetDockerClientBuilder(Guid.NewGuid()).Build();
    }

    private async Task LoadAsync(string name)
    {
        await using var archive = File.OpenRead(await ImageAsync(name));
        List<string> trouble = [];
        await Client.Images.LoadImageAsync(new ImageLoadParameters { Quiet = true }, archive, new Progress(trouble));
        Assert.True(trouble.Count == 0, string.Join('\n', trouble));
    }

    // The version of the API, or null where no engine answers. Only engines of this machine count: their sockets are files.
    private static async Task<string?> AskVersionAsync(string host)
    {
        if (!host.StartsWith("unix://", StringComparison.Ordinal))
            return null;
        using var http = new HttpClient(
            new SocketsHttpHandler
            {
                ConnectCallback = async (_, stop) =>
                {
                    var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(host["unix://".Length..]), stop);
                    return new NetworkStream(socket, ownsSocket: true);
                },
            }
        );
        http.Timeout = TimeSpan.FromSeconds(10);
        try
        {
            using var answer = await http.GetAsync(new Uri("http://docker/_ping"));
            return answer.IsSuccessStatusCode && answer.Headers.TryGetValues("Api-Version", out var version) ? version.First() : null;
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
        {
            return null;
        }
    }

    private sealed class Progress(List<string> trouble) : IProgress<JSONMessage>
    {
        public void Report(JSONMessage value)
        {
            if (value.Error is { } error)
                trouble.Add(error.Message ?? "the image was not loaded");
        }
    }
}
