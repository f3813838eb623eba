using System.CommandLine;
using Bgsnap.Crds.Hosting;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.NodeAgent.Cli;

/// <summary><c>bgsnap-agent node</c> and <c>bgsnap-agent carry</c>: the agent as part of a cluster.</summary>
internal static class NodeCommand
{
    internal static Command Node(string[] arguments)
    {
        Option<string> name = new("--node-name") { HelpName = "NAME", Description = "This node (default: $NODE_NAME)" };
        Command command = new("node", "Do the SnapshotTasks of this node; runs as a DaemonSet's pod.") { name };
        ServingOptions serving = new(command);
        command.SetAction(async (parsed, stop) =>
        {
            if ((parsed.GetValue(name) ?? Environment.GetEnvironmentVariable("NODE_NAME")) is not { Length: > 0 } node)
            {
                await Console.Error.WriteLineAsync("bgsnap-agent: which node is this? Give --node-name, or set NODE_NAME from the downward API").ConfigureAwait(false);
                return ExitCode.Usage;
            }
            // Privileged pods have every capability; what is not needed is given up before anything else.
            if (Capabilities.HasOthers()) Capabilities.RestartWithFewer(arguments);
            return await NodeService.Run(node, serving.Read(parsed), stop).ConfigureAwait(false);
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
}
