using System.CommandLine;
using System.CommandLine.Parsing;
using Bgsnap.ControllerRuntime.Hosting;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;
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
            Description = "Directory for disk data that guests overwrite before the agent has copied it (default: $TMPDIR or /tmp)",
        };
        Option<long> scratchLimit = new("--scratch-limit")
        {
            HelpName = "SIZE",
            Description = "Size of that directory's volume; captures use at most nine tenths of it",
            CustomParser = Size,
        };
        Option<int> captures = new("--max-concurrent-captures")
        {
            HelpName = "N",
            Description = "Captures that share it: as many as the operator runs on this node at once (default: 1)",
        };
        Command command = new("node", "Carry out the SnapshotTasks of this node; runs in the pod of a DaemonSet.")
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
                        .Error.WriteLineAsync(
                            "bgsnap-agent: the node's name is missing: give --node-name, or set NODE_NAME from the downward API"
                        )
                        .ConfigureAwait(false);
                    return ExitCode.Usage;
                }
                // Privileged pods have every capability; before anything else the agent drops those it does not need.
                if (Capabilities.HasOthers())
                    Capabilities.RestartWithFewer(arguments);
                Scratch place = Scratch.Shared(
                    parsed.GetValue(scratch),
                    parsed.GetResult(scratchLimit) is null ? null : parsed.GetValue(scratchLimit),
                    parsed.GetResult(captures) is null ? 1 : parsed.GetValue(captures)
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
        result.AddError($"invalid size '{result.Tokens[0].Value}' (example: 10Gi)");
        return 0;
    }

    internal static Command Carry()
    {
        Command command = new("carry", "Do nothing until SIGTERM; runs in the pod that mounts a claim on a node.");
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
