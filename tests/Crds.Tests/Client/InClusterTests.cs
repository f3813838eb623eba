using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Microsoft.Extensions.Time.Testing;

namespace Bgsnap.Crds.Tests.Client;

/// <summary>A pod's connection: its address, the certificate it trusts, its token.</summary>
public sealed class InClusterTests : IDisposable
{
    private readonly string _mount = Directory.CreateTempSubdirectory("bgsnap-mount-").FullName;
    private readonly FakeTimeProvider _clock = new();

    public InClusterTests() => File.WriteAllText(Path.Join(_mount, "token"), "first\n");

    public void Dispose() => Directory.Delete(_mount, recursive: true);

    [Theory]
    [InlineData(null, "443", true)]
    [InlineData("10.96.0.1", null, true)]
    [InlineData("10.96.0.1", "443", false)]
    public void What_is_no_pod_is_told_what_is_missing(string? host, string? port, bool token)
    {
        if (!token)
            File.Delete(Path.Join(_mount, "token"));
        InvalidOperationException e = Assert.Throws<InvalidOperationException>(() => InCluster.Connect(host, port, _mount, _clock));
        Assert.Contains("KUBERNETES_SERVICE_HOST", e.Message, StringComparison.Ordinal);
        Assert.Contains(_mount, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("::1")]
    public async Task It_trusts_the_clusters_own_certificates_and_shows_its_token_which_is_renewed(string address)
    {
        using Server server = new(IPAddress.Parse(address));
        File.WriteAllText(Path.Join(_mount, "ca.crt"), server.Authority);
        ApiClient client = InCluster.Connect(address, $"{server.Port}", _mount, _clock);
        await client.Get(Resources.Pods, "ns", "p", default);
        File.WriteAllText(Path.Join(_mount, "token"), "second\n");
        await client.Get(Resources.Pods, "ns", "p", default);
        _clock.Advance(TimeSpan.FromSeconds(61));
        await client.Get(Resources.Pods, "ns", "p", default);
        Assert.Equal(["Bearer first", "Bearer first", "Bearer second"], server.Tokens);
    }

    [Fact]
    public async Task A_server_with_another_certificate_gets_no_token()
    {
        using Server server = new(IPAddress.Loopback),
            other = new(IPAddress.Loopback);
        File.WriteAllText(Path.Join(_mount, "ca.crt"), other.Authority);
        ApiClient client = InCluster.Connect("127.0.0.1", $"{server.Port}", _mount, _clock);
        HttpRequestException e = await Assert.ThrowsAsync<HttpRequestException>(() => client.Get(Resources.Pods, "ns", "p", default));
        Assert.IsType<AuthenticationException>(e.InnerException);
        Assert.Empty(server.Tokens);
    }

    /// <summary>An API server that has a certificate of an authority of its own and answers every request with a pod.</summary>
    private sealed class Server : IDisposable
    {
        private const string Pod = """{"metadata":{"name":"p"}}""";
        private readonly TcpListener _listener;
        private readonly X509Certificate2 _certificate;
        private readonly CancellationTokenSource _stop = new();

        internal Server(IPAddress address)
        {
            using RSA authorityKey = RSA.Create(2048),
                key = RSA.Create(2048);
            CertificateRequest root = new(
                "CN=test authority " + Guid.NewGuid(),
                authorityKey,
                HashAlgorithmName.SHA256,
                RSASignaturePadding.Pkcs1
            );
            root.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
            DateTimeOffset now = DateTimeOffset.UtcNow;
            using X509Certificate2 authority = root.CreateSelfSigned(now.AddDays(-1), now.AddDays(1));
            Authority = authority.ExportCertificatePem();
            CertificateRequest leaf = new("CN=kube-apiserver", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            SubjectAlternativeNameBuilder names = new();
            names.AddIpAddress(address);
            leaf.CertificateExtensions.Add(names.Build());
            using X509Certificate2 signed = leaf.Create(authority, now.AddHours(-1), now.AddHours(1), [1, 2, 3, 4]);
            _certificate = signed.CopyWithPrivateKey(key);
            _listener = new TcpListener(address, 0);
            _listener.Start();
            _ = Serve();
        }

        internal string Authority { get; }
        internal int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;
        internal ConcurrentQueue<string> Tokens { get; } = [];

        public void Dispose()
        {
            _stop.Cancel();
            _listener.Dispose();
            _certificate.Dispose();
            _stop.Dispose();
        }

        private async Task Serve()
        {
            try
            {
                while (true)
                    _ = Answer(await _listener.AcceptTcpClientAsync(_stop.Token));
            }
            catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                // The test has ended.
            }
        }

        private async Task Answer(TcpClient client)
        {
            try
            {
                using (client)
                await using (SslStream tls = new(client.GetStream()))
                {
                    await tls.AuthenticateAsServerAsync(_certificate);
                    using StreamReader lines = new(tls, Encoding.ASCII, leaveOpen: true);
                    while (await lines.ReadLineAsync(_stop.Token) is { } line)
                    {
                        if (line.StartsWith("Authorization: ", StringComparison.Ordinal))
                            Tokens.Enqueue(line["Authorization: ".Length..]);
                        if (line.Length == 0)
                            await tls.WriteAsync(
                                Encoding.ASCII.GetBytes(
                                    $"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {Pod.Length}\r\n\r\n{Pod}"
                                ),
                                _stop.Token
                            );
                    }
                }
            }
            catch (Exception e) when (e is IOException or AuthenticationException or OperationCanceledException or ObjectDisposedException)
            {
                // The caller does not trust us, or has enough.
            }
        }
    }
}
