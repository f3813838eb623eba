using Bgsnap.ControllerRuntime.Client;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Prometheus;

namespace Bgsnap.ControllerRuntime.Hosting;

/// <summary>The host of a program in the cluster: its log, its probes and its metrics.</summary>
public static class ServingHost
{
    /// <summary>
    /// A host that wants only the program's own services yet; <see cref="Health"/> and the API client are among its services.
    /// </summary>
    /// <param name="serving">Where and how.</param>
    /// <param name="api">The API server, which is also asked who may read metrics.</param>
    /// <param name="shutdown">How long the program has to end in good order.</param>
    public static HostApplicationBuilder CreateBuilder(Serving serving, IApiClient api, TimeSpan shutdown)
    {
        Metrics.SuppressDefaultMetrics(new SuppressDefaultMetricOptions { SuppressEventCounters = true, SuppressMeters = true });
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.SetMinimumLevel(serving.Level);
        if (serving.JsonLog)
            builder.Logging.AddJsonConsole(o => o.TimestampFormat = "O");
        else
            builder.Logging.AddSimpleConsole(o => (o.SingleLine, o.TimestampFormat) = (true, "HH:mm:ss.fff "));
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = shutdown);
        builder.Services.AddSingleton(api);
        builder.Services.AddSingleton<Health>();
        builder.Services.AddHostedService(s => new ProbesAndMetrics(
            serving.Endpoints,
            s.GetRequiredService<Health>(),
            serving.MetricsNeedToken ? new MetricsAccess(api) : null,
            s.GetRequiredService<ILogger<ProbesAndMetrics>>()
        ));
        return builder;
    }
}
