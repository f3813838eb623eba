using System.CommandLine;
using System.CommandLine.Parsing;
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
        Option<string> scratch = new("--scratch")
        {
            HelpName = "DIR",
            Description = "Where captures keep what guests overwrite on their disks before it was copied (default: as of capture)",
        };
        Option<long> scratchLimit = new("--scratch-limit")
        {
            HelpName = "SIZE",
            Description = "Size of that place; captures take at most nine tenths of it",
            CustomParser = Size,
        };
        Option<int> captures = new("--max-concurrent-captures")
        {
            HelpName = "N",
            Description = "Captures that share it: what the operator lets this node do at once",
            DefaultValueFactory = _ => 1,
        };
        Command command = new("node", "Do the SnapshotTasks of this node; runs as a DaemonSet's pod.")
        {
            name,
            scratch,
            scratchLimit,
            captures,
        };
        ServingOptions serving = new(command);
        command.SetAction(
            async (parsed, stop) =>
            {
                if ((parsed.GetValue(name) ?? Environment.GetEnvironmentVariable("NODE_NAME")) is not { Length: > 0 } node)
                {
                    await Console
                        .Error.WriteLineAsync("bgsnap-agent: which node is this? Give --node-name, or set NODE_NAME from the downward API")
                        .ConfigureAwait(false);
                    return ExitCode.Usage;
                }
                // Privileged pods have every capability; before anything else the agent drops those it does not need.
                if (Capabilities.HasOthers())
                    Capabilities.RestartWithFewer(arguments);
                Scratch place = Scratch.Shared(
                    parsed.GetValue(scratch),
                    parsed.GetResult(scratchLimit) is null ? null : parsed.GetValue(scratchLimit),
                    parsed.GetValue(captures)
                );
                return await NodeService.Run(node, serving.Read(parsed), place, stop).ConfigureAwait(false);
            }
        );
        return command;
    }

    private static long Size(ArgumentResult result)
    {
        if (Quantity.ParseSize(result.Tokens[0].Value) is { } bytes and > 0)
            return bytes;
        result.AddError($"'{result.Tokens[0].Value}' is no size; write for example 10Gi");
        return 0;
    }

    internal static Command Carry()
    {
        Command command = new("carry", "Do nothing until told to end; a pod that brings a claim to a node runs it.");
        command.SetAction(
            async (_, stop) =>
            {
                await Task.Delay(Timeout.Infinite, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                return ExitCode.Success;
            }
        );
        return command;
    }
}
