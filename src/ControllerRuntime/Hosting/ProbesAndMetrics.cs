using System.Net;
using System.Text;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Prometheus;

namespace Bgsnap.ControllerRuntime.Hosting;

/// <summary>Where probes and metrics are served.</summary>
/// <param name="Health">Address of /healthz and /readyz.</param>
/// <param name="Metrics">Address of /metrics.</param>
public sealed record EndpointOptions(IPEndPoint Health, IPEndPoint Metrics);

/// <summary>What the kubelet is told. Ready: work can be done. Healthy: the program is not stuck.</summary>
public sealed class Health
{
    private volatile string? _notReady = "starting";

    /// <summary>Why it is not ready, or null.</summary>
    public string? NotReady
    {
        get => _notReady;
        set => _notReady = value;
    }

    /// <summary>Whether the program is stuck; asked by every liveness probe. Returns why, or null.</summary>
    public Func<string?> Stuck { get; set; } = () => null;
}

/// <summary>Serves /healthz, /readyz and /metrics.</summary>
/// <param name="options">Where.</param>
/// <param name="health">What the probes answer.</param>
/// <param name="access">Who may read metrics; null: anyone who reaches the address.</param>
/// <param name="log">Log.</param>
public sealed class ProbesAndMetrics(EndpointOptions options, Health health, MetricsAccess? access, ILogger<ProbesAndMetrics> log)
    : BackgroundService
{
    // Metrics first: who is told that the program is ready finds them.
    /// <inheritdoc/>
    protected override Task ExecuteAsync(CancellationToken stoppingToken) =>
        Task.WhenAll(
            new HttpEndpoint(options.Metrics, AnswerMetrics, log).Run(stoppingToken),
            new HttpEndpoint(options.Health, AnswerProbe, log).Run(stoppingToken)
        );

    private Task<HttpAnswer> AnswerProbe(string path, string? authorization, CancellationToken stop) =>
        Task.FromResult(
            path switch
            {
                "/healthz" => Say(health.Stuck()),
                "/readyz" => Say(health.NotReady),
                _ => new HttpAnswer(404, "there are /healthz and /readyz\n"),
            }
        );

    private static HttpAnswer Say(string? problem) => problem is null ? new HttpAnswer(200, "ok\n") : new HttpAnswer(503, problem + "\n");

    private async Task<HttpAnswer> AnswerMetrics(string path, string? authorization, CancellationToken stop)
    {
        if (path != "/metrics")
            return new HttpAnswer(404, "there is /metrics\n");
        if (access is not null && await access.Refusal(authorization, stop).ConfigureAwait(false) is { } refusal)
            return refusal;
        using MemoryStream text = new();
        await Metrics.DefaultRegistry.CollectAndExportAsTextAsync(text, stop).ConfigureAwait(false);
        return new HttpAnswer(
            200,
            Encoding.UTF8.GetString(text.GetBuffer(), 0, (int)text.Length),
            "text/plain; version=0.0.4; charset=utf-8"
        );
    }
}
