using System.Net.Http.Headers;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;

namespace Bgsnap.ControllerRuntime.Client;

/// <summary>The verbs that controllers need, over an HTTP client that knows the server and our credentials.</summary>
/// <remarks>
/// Paths and verbs: Kubernetes API conventions. Errors: <see cref="ApiException"/>, or <see cref="HttpRequestException"/> if the server
/// cannot be reached.
/// </remarks>
/// <param name="http">Its base address is the server; it has no timeout of its own, because that would end watches.</param>
/// <param name="requestTimeout">Longest time for one request; null: 30 s.</param>
public sealed class ApiClient(HttpClient http, TimeSpan? requestTimeout = null) : IApiClient
{
    private static readonly Prometheus.Counter Requests = Prometheus.Metrics.CreateCounter(
        "bgsnap_api_requests_total",
        "Requests that the API server answered, by HTTP method and status.",
        "method",
        "code"
    );

    // As in kubectl: a list of any length takes little of the server's memory at a time.
    private const int Page = 500;
    private readonly TimeSpan _requestTimeout = requestTimeout ?? TimeSpan.FromSeconds(30);

    /// <inheritdoc/>
    public Task<T> Get<T>(ResourceType<T> type, string ns, string name, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> => Send(HttpMethod.Get, type.Path(ns, name), null, type.Json, stop);

    /// <inheritdoc/>
    public async Task<ResourceList<T>> List<T>(ResourceType<T> type, string? ns, string? labels, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        ResourceList<T> all = new();
        string? query = $"limit={Page}";
        while (true)
        {
            try
            {
                ResourceList<T> page = await Send(HttpMethod.Get, type.Path(ns) + Query(labels, query), null, type.ListJson, stop)
                    .ConfigureAwait(false);
                all.Metadata = page.Metadata;
                all.Items.AddRange(page.Items);
                if (page.Metadata.ContinueProperty is not { Length: > 0 } next)
                    return all;
                query = $"limit={Page}&continue={Uri.EscapeDataString(next)}";
            }
            catch (ApiException e) when (e.Code == 410 && query is not null)
            {
                // The pages read so far belong to a state that the server no longer has. Read everything in one request, which cannot
                // become too old.
                (all, query) = (new(), null);
            }
        }
    }

    /// <inheritdoc/>
    public Task<T> Create<T>(ResourceType<T> type, T item, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Send(
            HttpMethod.Post,
            type.Path(item.Metadata.NamespaceProperty),
            Body(JsonSerializer.Serialize(item, type.Json), "application/json"),
            type.Json,
            stop
        );

    /// <inheritdoc/>
    public Task<T> MergePatch<T>(
        ResourceType<T> type,
        string ns,
        string name,
        string? subresource,
        JsonObject patch,
        CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        Send(
            HttpMethod.Patch,
            type.Path(ns, name, subresource),
            Body(patch.ToJsonString(), "application/merge-patch+json"),
            type.Json,
            stop
        );

    /// <inheritdoc/>
    public async Task Delete<T>(ResourceType<T> type, string ns, string name, string? uid, int? graceSeconds, CancellationToken stop)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        JsonObject options = new()
        {
            ["apiVersion"] = "v1",
            ["kind"] = "DeleteOptions",
            ["propagationPolicy"] = "Background",
        };
        if (uid is not null)
            options["preconditions"] = new JsonObject { ["uid"] = uid };
        if (graceSeconds is not null)
            options["gracePeriodSeconds"] = graceSeconds;
        await Send(
                HttpMethod.Delete,
                type.Path(ns, name),
                Body(options.ToJsonString(), "application/json"),
                RuntimeJson.Default.JsonElement,
                stop
            )
            .ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async Task<TAnswer> Post<TAnswer>(string path, JsonNode body, JsonTypeInfo<TAnswer> answer, CancellationToken stop) =>
        await Send(HttpMethod.Post, path, Body(body.ToJsonString(), "application/json"), answer, stop).ConfigureAwait(false);

    /// <inheritdoc/>
    public async IAsyncEnumerable<WatchEvent<T>> Watch<T>(
        ResourceType<T> type,
        string? ns,
        string? labels,
        string resourceVersion,
        TimeSpan longest,
        [EnumeratorCancellation] CancellationToken stop
    )
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        string query = Query(
            labels,
            $"watch=true&allowWatchBookmarks=true&resourceVersion={resourceVersion}&timeoutSeconds={(int)longest.TotalSeconds}"
        );
        // The server ends a watch at timeoutSeconds; one that stays silent for longer is a connection that died unnoticed.
        using var silence = CancellationTokenSource.CreateLinkedTokenSource(stop);
        silence.CancelAfter(longest + _requestTimeout);
        using HttpRequestMessage request = new(HttpMethod.Get, new Uri(type.Path(ns) + query, UriKind.Relative));
        using HttpResponseMessage response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, silence.Token)
            .ConfigureAwait(false);
        await ThrowIfRefused(response, silence.Token).ConfigureAwait(false);
        using StreamReader lines = new(await response.Content.ReadAsStreamAsync(silence.Token).ConfigureAwait(false));
        while (await lines.ReadLineAsync(silence.Token).ConfigureAwait(false) is { } line)
            if (line.Length > 0)
                yield return WatchEvent<T>.Read(line, type.Json);
    }

    private async Task<TAnswer> Send<TAnswer>(
        HttpMethod method,
        string path,
        HttpContent? body,
        JsonTypeInfo<TAnswer> answer,
        CancellationToken stop
    )
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(stop);
        timeout.CancelAfter(_requestTimeout);
        using HttpRequestMessage request = new(method, new Uri(path, UriKind.Relative)) { Content = body };
        try
        {
            using HttpResponseMessage response = await http.SendAsync(request, timeout.Token).ConfigureAwait(false);
            await ThrowIfRefused(response, timeout.Token).ConfigureAwait(false);
            await using Stream stream = await response.Content.ReadAsStreamAsync(timeout.Token).ConfigureAwait(false);
            return await JsonSerializer.DeserializeAsync(stream, answer, timeout.Token).ConfigureAwait(false)
                ?? throw new HttpRequestException($"{method} {path}: the API server answered null");
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            throw new HttpRequestException($"{method} {path}: the API server did not answer within {_requestTimeout.TotalSeconds} s");
        }
    }

    private static async Task ThrowIfRefused(HttpResponseMessage response, CancellationToken stop)
    {
        Requests
            .WithLabels(
                response.RequestMessage?.Method.Method ?? "",
                ((int)response.StatusCode).ToString(System.Globalization.CultureInfo.InvariantCulture)
            )
            .Inc();
        if (response.IsSuccessStatusCode)
            return;
        string text = await response.Content.ReadAsStringAsync(stop).ConfigureAwait(false);
        ApiStatus? status = null;
        try
        {
            status = JsonSerializer.Deserialize(text, RuntimeJson.Default.ApiStatus);
        }
        catch (JsonException)
        {
            // A proxy's page, or a path that the server does not know: not an answer about the object.
        }
        throw new ApiException(
            (int)response.StatusCode,
            status?.Reason ?? "",
            status?.Message ?? $"HTTP {(int)response.StatusCode}",
            status?.Details?.Causes?.FirstOrDefault()?.Reason
        );
    }

    private static StringContent Body(string json, string mediaType) =>
        new(json) { Headers = { ContentType = new MediaTypeHeaderValue(mediaType) } };

    private static string Query(string? labels, string? more = null)
    {
        string query = labels is null ? "" : "labelSelector=" + Uri.EscapeDataString(labels);
        if (more is not null)
            query = query.Length == 0 ? more : query + "&" + more;
        return query.Length == 0 ? "" : "?" + query;
    }
}
