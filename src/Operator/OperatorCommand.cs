using System.CommandLine;
using System.CommandLine.Parsing;
using System.Net;
using Bgsnap.Crds.Client;
using Bgsnap.Crds.Controller;
using Bgsnap.Crds.Hosting;
using Bgsnap.Operator.Kube;
using k8s;
using k8s.Exceptions;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Prometheus;

namespace Bgsnap.Operator;

/// <summary>The command line of <c>bgsnap-operator</c>.</summary>
internal static class OperatorCommand
{
    internal static RootCommand Create()
    {
        Option<string> image = new("--agent-image") { Required = true, HelpName = "IMAGE", Description = "Image of the pods that bring a claim to a node: the agent's" };
        Option<string> pull = new("--agent-image-pull-policy") { HelpName = "POLICY", Description = "Their pull policy", DefaultValueFactory = _ => "IfNotPresent" };
        Option<int> concurrent = new("--max-concurrent-captures") { HelpName = "N", Description = "Captures at once on one node", DefaultValueFactory = _ => 1 };
        Option<int> workers = new("--workers") { HelpName = "N", Description = "Snapshots that are looked at at once", DefaultValueFactory = _ => 8 };
        Option<IPEndPoint> health = new("--health-address") { HelpName = "ADDRESS:PORT", Description = "Where /healthz and /readyz are served", CustomParser = Address, DefaultValueFactory = _ => IPEndPoint.Parse("0.0.0.0:8081") };
        Option<IPEndPoint> metrics = new("--metrics-address") { HelpName = "ADDRESS:PORT", Description = "Where /metrics is served", CustomParser = Address, DefaultValueFactory = _ => IPEndPoint.Parse("127.0.0.1:8080") };
        Option<string> auth = new("--metrics-auth") { HelpName = "token|none", Description = "token: readers of metrics show a bearer token that may get /metrics (default, unless served on localhost only)" };
        Option<string> ns = new("--leader-election-namespace") { HelpName = "NAMESPACE", Description = "Namespace of the lease by which one of several replicas leads (default: $POD_NAMESPACE; none: no election)" };
        Option<string> kubeconfig = new("--kubeconfig") { HelpName = "FILE", Description = "How to reach the API server (default: as a pod, or $KUBECONFIG)" };
        Option<LogLevel> level = new("--log-level") { HelpName = "Debug|Information|Warning|Error", Description = "What is logged", DefaultValueFactory = _ => LogLevel.Information };
        Option<string> format = new("--log-format") { HelpName = "text|json", Description = "One line of text, or one JSON object, for each message", DefaultValueFactory = _ => "text" };
        auth.AcceptOnlyFromAmong("token", "none");
        format.AcceptOnlyFromAmong("text", "json");
        concurrent.Validators.Add(AtLeastOne);
        workers.Validators.Add(AtLeastOne);
        RootCommand root = new("bgsnap-operator: reconciles VMBackgroundSnapshots.") { image, pull, concurrent, workers, health, metrics, auth, ns, kubeconfig, level, format };
        root.SetAction(async (parsed, stop) =>
        {
            IPEndPoint metricsAddress = parsed.GetValue(metrics)!;
            OperatorOptions options = new()
            {
                AgentImage = parsed.GetValue(image)!,
                PullPolicy = parsed.GetValue(pull)!,
                MaxConcurrentCaptures = parsed.GetValue(concurrent),
                Workers = parsed.GetValue(workers),
                HealthAddress = parsed.GetValue(health)!,
                MetricsAddress = metricsAddress,
                MetricsNeedToken = (parsed.GetValue(auth) ?? (IPAddress.IsLoopback(metricsAddress.Address) ? "none" : "token")) == "token",
                LeaderElectionNamespace = parsed.GetValue(ns) ?? Environment.GetEnvironmentVariable("POD_NAMESPACE"),
                Kubeconfig = parsed.GetValue(kubeconfig),
            };
            return await Run(options, parsed.GetValue(level), parsed.GetValue(format) == "json", stop).ConfigureAwait(false);
        });
        return root;
    }

    private static async Task<int> Run(OperatorOptions options, LogLevel level, bool json, CancellationToken stop)
    {
        Metrics.SuppressDefaultMetrics(new SuppressDefaultMetricOptions { SuppressEventCounters = true, SuppressMeters = true });
        Kubernetes kubernetes;
        try
        {
            kubernetes = Cluster.Connect(options.Kubeconfig);
        }
        catch (Exception e) when (e is KubeConfigException or IOException or k8s.Autorest.HttpOperationException)
        {
            await Console.Error.WriteLineAsync($"error: the API server's address is not known: {e.Message}. Run it as a pod, or name a kubeconfig with --kubeconfig").ConfigureAwait(false);
            return 1;
        }
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.SetMinimumLevel(level);
        if (json) builder.Logging.AddJsonConsole(o => o.TimestampFormat = "O");
        else builder.Logging.AddSimpleConsole(o => (o.SingleLine, o.TimestampFormat) = (true, "HH:mm:ss.fff "));
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(20));
        builder.Services.AddSingleton(options);
        builder.Services.AddSingleton(TimeProvider.System);
        builder.Services.AddSingleton<IKubernetes>(kubernetes);
        builder.Services.AddSingleton<IApiClient>(Cluster.ClientOf(kubernetes));
        builder.Services.AddSingleton<Health>();
        builder.Services.AddSingleton(new EndpointOptions(options.HealthAddress, options.MetricsAddress));
        if (options.MetricsNeedToken) builder.Services.AddSingleton(s => new MetricsAccess(s.GetRequiredService<IApiClient>()));
        builder.Services.AddHostedService(s => new ProbesAndMetrics(
            s.GetRequiredService<EndpointOptions>(), s.GetRequiredService<Health>(), s.GetService<MetricsAccess>(), s.GetRequiredService<ILogger<ProbesAndMetrics>>()));
        builder.Services.AddHostedService(s => new SnapshotController(
            s.GetRequiredService<IApiClient>(), Gate(s, options), options, s.GetRequiredService<Health>(), s.GetRequiredService<TimeProvider>(),
            s.GetRequiredService<IHostApplicationLifetime>(), s.GetRequiredService<ILoggerFactory>()));
        using IHost host = builder.Build();
        await host.RunAsync(stop).ConfigureAwait(false);
        return Environment.ExitCode;
    }

    private static Lazy<LeaderGate>? Gate(IServiceProvider services, OperatorOptions options) => options.LeaderElectionNamespace is not { Length: > 0 } ns || ns == "none"
        ? null
        : new Lazy<LeaderGate>(() => new LeaderGate(
            services.GetRequiredService<IKubernetes>(), ns, "bgsnap-operator", $"{Environment.MachineName}_{Guid.NewGuid():N}",
            services.GetRequiredService<ILoggerFactory>().CreateLogger<LeaderGate>()));

    private static IPEndPoint? Address(ArgumentResult result)
    {
        if (IPEndPoint.TryParse(result.Tokens[0].Value, out IPEndPoint? address) && address.Port != 0) return address;
        result.AddError($"'{result.Tokens[0].Value}' is not an address and port; write for example 127.0.0.1:8080");
        return null;
    }

    private static void AtLeastOne(OptionResult result)
    {
        if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, out int n) && n < 1) result.AddError($"{result.Option.Name}: at least 1");
    }
}
