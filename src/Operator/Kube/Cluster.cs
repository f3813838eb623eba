using Bgsnap.ControllerRuntime.Client;
using k8s;
using k8s.Authentication;

namespace Bgsnap.Operator.Kube;

/// <summary>The connection to the API server.</summary>
internal static class Cluster
{
    /// <summary>
    /// Reads the configuration: the given kubeconfig file, or else the in-cluster configuration, or else the default kubeconfig.
    /// </summary>
    public static Kubernetes Connect(string? kubeconfig)
    {
        KubernetesClientConfiguration config = kubeconfig is not null
            ? KubernetesClientConfiguration.BuildConfigFromConfigFile(kubeconfig)
            : KubernetesClientConfiguration.BuildDefaultConfig();
        return new Kubernetes(config);
    }

    /// <summary>Our own client over the same connections and credentials.</summary>
    public static ApiClient ClientOf(Kubernetes kubernetes) =>
        new(
            new HttpClient(new Authenticated(kubernetes.HttpClient, kubernetes.Credentials))
            {
                BaseAddress = BaseOf(kubernetes),
                Timeout = Timeout.InfiniteTimeSpan,
            }
        );

    private static Uri BaseOf(Kubernetes kubernetes) =>
        kubernetes.BaseUri.AbsoluteUri.EndsWith('/') ? kubernetes.BaseUri : new Uri(kubernetes.BaseUri.AbsoluteUri + "/");

    /// <summary>
    /// Adds the credentials to each request, because a service account's token is renewed, and passes the request to the library's HTTP
    /// client.
    /// </summary>
    private sealed class Authenticated(HttpClient inner, ServiceClientCredentials? credentials) : HttpMessageHandler
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (credentials is not null)
                await credentials.ProcessHttpRequestAsync(request, cancellationToken).ConfigureAwait(false);
            using HttpRequestMessage copy = new(request.Method, request.RequestUri) { Content = request.Content };
            copy.Headers.Authorization = request.Headers.Authorization;
            return await inner.SendAsync(copy, HttpCompletionOption.ResponseHeadersRead, cancellationToken).ConfigureAwait(false);
        }
    }
}
