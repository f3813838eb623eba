using System.CommandLine;
using System.CommandLine.Parsing;
using System.Net;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Tasks;
using Microsoft.Extensions.Logging;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>bgsnap-agent node</c> and <c>bgsnap-agent carry</c>: the agent as part of a cluster.</summary>
internal static class NodeCommand
{
    internal static Command Node(string[] arguments)
    {
        Option<string> name = new("--node-name") { HelpName = "NAME", Description = "This node (default: $NODE_NAME)" };
        Option<IPEndPoint> health = new("--health-address") { HelpName = "ADDRESS:PORT", Description = "Where /healthz and /readyz are served", CustomParser = Address, DefaultValueFactory = _ => IPEndPoint.Parse("0.0.0.0:8081") };
        Option<IPEndPoint> metrics = new("--metrics-address") { HelpName = "ADDRESS:PORT", Description = "Where /metrics is served", CustomParser = Address, DefaultValueFactory = _ => IPEndPoint.Parse("127.0.0.1:8080") };
        Option<string> auth = new("--metrics-auth") { HelpName = "token|none", Description = "token: readers of metrics show a bearer token that may get /metrics (default, unless served on localhost only)" };
        Option<LogLevel> level = new("--log-level") { HelpName = "Debug|Information|Warning|Error", Description = "What is logged", DefaultValueFactory = _ => LogLevel.Information };
        auth.AcceptOnlyFromAmong("token", "none");
        Command command = new("node", "Do the SnapshotTasks of this node; runs as a DaemonSet's pod.") { name, health, metrics, auth, level };
        command.SetAction(async (parsed, stop) =>
        {
            if ((parsed.GetValue(name) ?? Environment.GetEnvironmentVariable("NODE_NAME")) is not { Length: > 0 } node)
            {
                await Console.Error.WriteLineAsync("bgsnap-agent: which node is this? Give --node-name, or set NODE_NAME from the downward API").ConfigureAwait(false);
                return ExitCode.Usage;
            }
            // Privileged pods have every capability; what is not needed is given up before anything else.
            if (Capabilities.HasOthers()) Capabilities.RestartWithFewer(arguments);
            IPEndPoint metricsAddress = parsed.GetValue(metrics)!;
            NodeOptions options = new(
                node, parsed.GetValue(health)!, metricsAddress,
                (parsed.GetValue(auth) ?? (IPAddress.IsLoopback(metricsAddress.Address) ? "none" : "token")) == "token", parsed.GetValue(level));
            return await NodeService.Run(options, stop).ConfigureAwait(false);
        });
        return command;
    }

    internal static Command Carry()
    {
        Command command = new("carry", "Do nothing until told to end; a pod that brings a claim to a node runs it.");
        command.SetAction(async (_, stop) =>
        {
            await Task.Delay(Timeout.Infinite, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            return ExitCode.Success;
        });
        return command;
    }

    private static IPEndPoint? Address(ArgumentResult result)
    {
        if (IPEndPoint.TryParse(result.Tokens[0].Value, out IPEndPoint? address) && address.Port != 0) return address;
        result.AddError($"'{result.Tokens[0].Value}' is not an address and port; write for example 127.0.0.1:8080");
        return null;
    }
}
