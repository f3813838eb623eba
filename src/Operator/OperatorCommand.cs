using System.CommandLine;
using System.CommandLine.Parsing;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.ControllerRuntime.Hosting;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt.Hook;
using Bgsnap.Operator.Shared;
using k8s;
using k8s.Exceptions;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator;

/// <summary>The command line of <c>bgsnap-operator</c>.</summary>
internal static class OperatorCommand
{
    internal static RootCommand Create()
    {
        Option<string> image = new("--agent-image")
        {
            Required = true,
            HelpName = "IMAGE",
            Description = "Image of the pods that mount a claim on a node: the agent's image",
        };
        Option<string> pull = new("--agent-image-pull-policy")
        {
            HelpName = "POLICY",
            Description = "Pull policy of that image",
            DefaultValueFactory = _ => "IfNotPresent",
        };
        Option<string> hook = new("--hook-image")
        {
            HelpName = "IMAGE",
            Description =
                "Image of the hook sidecar of restored KubeVirt VMs: the operator's image. Without it, restores into KubeVirt fail",
        };
        Option<int> concurrent = new("--max-concurrent-captures")
        {
            HelpName = "N",
            Description = "Captures that run at the same time on one node",
            DefaultValueFactory = _ => 1,
        };
        Option<int> restores = new("--max-concurrent-restores")
        {
            HelpName = "N",
            Description = "Restores that run at the same time on one node",
            DefaultValueFactory = _ => 2,
        };
        Option<int> workers = new("--workers")
        {
            HelpName = "N",
            Description = "Objects of a kind that are reconciled at the same time",
            DefaultValueFactory = _ => 8,
        };
        Option<string> ns = new("--leader-election-namespace")
        {
            HelpName = "NAMESPACE",
            Description = "Namespace of the leader election lease (default: $POD_NAMESPACE; none: no election)",
        };
        Option<string> kubeconfig = new("--kubeconfig")
        {
            HelpName = "FILE",
            Description = "Kubeconfig file (default: the in-cluster configuration, or $KUBECONFIG)",
        };
        concurrent.Validators.Add(AtLeastOne);
        restores.Validators.Add(AtLeastOne);
        workers.Validators.Add(AtLeastOne);
        RootCommand root = new("bgsnap-operator: reconciles VMBackgroundSnapshots, VMBackgroundRestores and VMBackgroundSnapshotSchedules.")
        {
            image,
            pull,
            hook,
            concurrent,
            restores,
            workers,
            ns,
            kubeconfig,
        };
        root.Add(HookCommand.Create());
        ServingOptions serving = new(root);
        root.SetAction(
            async (parsed, stop) =>
            {
                OperatorOptions options = new()
                {
                    AgentImage = parsed.GetValue(image)!,
                    PullPolicy = parsed.GetValue(pull)!,
                    HookImage = parsed.GetValue(hook),
                    MaxConcurrentCaptures = parsed.GetValue(concurrent),
                    MaxConcurrentRestores = parsed.GetValue(restores),
                    Workers = parsed.GetValue(workers),
                    LeaderElectionNamespace = parsed.GetValue(ns) ?? Environment.GetEnvironmentVariable("POD_NAMESPACE"),
                    Kubeconfig = parsed.GetValue(kubeconfig),
                };
                return await Run(options, serving.Read(parsed), stop).ConfigureAwait(false);
            }
        );
        return root;
    }

    private static async Task<int> Run(OperatorOptions options, Serving serving, CancellationToken stop)
    {
        Kubernetes kubernetes;
        try
        {
            kubernetes = Cluster.Connect(options.Kubeconfig);
        }
        catch (Exception e) when (e is KubeConfigException or IOException or k8s.Autorest.HttpOperationException)
        {
            await Console
                .Error.WriteLineAsync(
                    $"error: no configuration to reach the API server: {e.Message}. Run the operator in a pod, or name a "
                        + "kubeconfig file with --kubeconfig"
                )
                .ConfigureAwait(false);
            return 1;
        }
        HostApplicationBuilder builder = ServingHost.CreateBuilder(serving, Cluster.ClientOf(kubernetes), TimeSpan.FromSeconds(20));
        builder.Services.AddSingleton(options);
        builder.Services.AddSingleton(TimeProvider.System);
        builder.Services.AddSingleton<IKubernetes>(kubernetes);
        builder.Services.AddHostedService(s => new LeadingService(
            s.GetRequiredService<IApiClient>(),
            Gate(s, options),
            options,
            s.GetRequiredService<Health>(),
            s.GetRequiredService<TimeProvider>(),
            s.GetRequiredService<IHostApplicationLifetime>(),
            s.GetRequiredService<ILoggerFactory>()
        ));
        using IHost host = builder.Build();
        await host.RunAsync(stop).ConfigureAwait(false);
        return Environment.ExitCode;
    }

    private static Lazy<LeaderGate>? Gate(IServiceProvider services, OperatorOptions options) =>
        options.LeaderElectionNamespace is not { Length: > 0 } ns || ns == "none"
            ? null
            : new Lazy<LeaderGate>(() =>
                new LeaderGate(
                    services.GetRequiredService<IKubernetes>(),
                    ns,
                    "bgsnap-operator",
                    $"{Environment.MachineName}_{Guid.NewGuid():N}",
                    services.GetRequiredService<ILoggerFactory>().CreateLogger<LeaderGate>()
                )
            );

    private static void AtLeastOne(OptionResult result)
    {
        if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, out int n) && n < 1)
            result.AddError($"{result.Option.Name} must be at least 1");
    }
}
