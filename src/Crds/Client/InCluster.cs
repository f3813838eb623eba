using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;

namespace Bgsnap.Crds.Client;

/// <summary>The connection of a pod to its API server, by the files and variables that every pod has.</summary>
public static class InCluster
{
    private const string Mount = "/var/run/secrets/kubernetes.io/serviceaccount";

    /// <summary>Connects with the pod's service account.</summary>
    /// <exception cref="InvalidOperationException">This is no pod, or its token is not mounted.</exception>
    public static ApiClient Connect()
    {
        string? host = Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_HOST"), port = Environment.GetEnvironmentVariable("KUBERNETES_SERVICE_PORT");
        if (host is null || port is null || !File.Exists(Mount + "/token"))
            throw new InvalidOperationException("this does not run as a pod with a service account: KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT and " + Mount + " are needed");
        X509ChainPolicy trust = new() { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        trust.CustomTrustStore.ImportFromPemFile(Mount + "/ca.crt");
        SocketsHttpHandler handler = new()
        {
            SslOptions = new SslClientAuthenticationOptions { CertificateChainPolicy = trust },
            PooledConnectionLifetime = TimeSpan.FromMinutes(15),
            ConnectTimeout = TimeSpan.FromSeconds(10),
        };
        string address = host.Contains(':', StringComparison.Ordinal) ? $"[{host}]" : host;
        return new ApiClient(new HttpClient(new Token(handler)) { BaseAddress = new Uri($"https://{address}:{port}/"), Timeout = Timeout.InfiniteTimeSpan });
    }

    /// <summary>Adds the token, read anew every minute: the kubelet renews it.</summary>
    private sealed class Token(HttpMessageHandler inner) : DelegatingHandler(inner)
    {
        private string? _token;
        private long _readAt;

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            long now = Environment.TickCount64;
            if (_token is null || now - _readAt > 60_000) (_token, _readAt) = (File.ReadAllText(Mount + "/token").Trim(), now);
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", _token);
            return base.SendAsync(request, cancellationToken);
        }
    }
}
