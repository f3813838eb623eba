using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;

namespace Bgsnap.ControllerRuntime.Client;

/// <summary>A pod's connection to its API server, from the files and variables that every pod has.</summary>
public static class InCluster
{
    private const string Mount = "/var/run/secrets/kubernetes.io/serviceaccount";

    /// <summary>Connects with the pod's service account.</summary>
    /// <exception cref="InvalidOperationException">This process is not in a pod, or the pod's token is not mounted.</exception>
    public static ApiClient Connect() =>
        Connect(
            Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_HOST"),
            Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_PORT"),
            Mount,
            TimeProvider.System
        );

    internal static ApiClient Connect(string? host, string? port, string mount, TimeProvider clock)
    {
        if (host is null || port is null || !File.Exists(mount + "/token"))
            throw new InvalidOperationException(
                "this does not run as a pod with a service account: KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT and "
                    + mount
                    + " are needed"
            );
        X509ChainPolicy trust = new() { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        trust.CustomTrustStore.ImportFromPemFile(mount + "/ca.crt");
        SocketsHttpHandler handler = new()
        {
            SslOptions = new SslClientAuthenticationOptions { CertificateChainPolicy = trust },
            PooledConnectionLifetime = TimeSpan.FromMinutes(15),
            ConnectTimeout = TimeSpan.FromSeconds(10),
        };
        string address = host.Contains(':', StringComparison.Ordinal) ? $"[{host}]" : host;
        return new ApiClient(
            new HttpClient(new Token(handler, mount + "/token", clock))
            {
                BaseAddress = new Uri($"https://{address}:{port}/"),
                Timeout = Timeout.InfiniteTimeSpan,
            }
        );
    }

    /// <summary>Adds the token, and reads it again every minute because the kubelet renews it.</summary>
    private sealed class Token(HttpMessageHandler inner, string file, TimeProvider clock) : DelegatingHandler(inner)
    {
        private static readonly TimeSpan Renewal = TimeSpan.FromMinutes(1);
        private string? _token;
        private DateTimeOffset _readAt;

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            DateTimeOffset now = clock.GetUtcNow();
            if (_token is null || now - _readAt > Renewal)
                (_token, _readAt) = (File.ReadAllText(file).Trim(), now);
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", _token);
            return base.SendAsync(request, cancellationToken);
        }
    }
}
