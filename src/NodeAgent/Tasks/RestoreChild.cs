using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Runs <c>restore --json</c> in a process of its own; if that process dies, the guest does not run.</summary>
internal static class RestoreChild
{
    // Longer than the command waits for a guest agent.
    private static readonly TimeSpan AskLimit = TimeSpan.FromMinutes(3);

    /// <summary>Restores, and returns the last line. Continues what another such process began in that QEMU.</summary>
    /// <param name="monitor">The way to QEMU's monitor, and the container that QEMU must run in.</param>
    /// <param name="snapshot">The snapshot's directory, as a path that the child can open.</param>
    /// <param name="guestAgent">The guest agent's socket, as a path that the child can open; null: the VM has no guest agent.</param>
    /// <param name="how">What to restore, and how to load memory.</param>
    /// <param name="progress">Called for each line of progress.</param>
    /// <param name="cancel">Ends it in good order; the guest does not run.</param>
    /// <param name="program">The program; null: this one.</param>
    /// <exception cref="TaskFailure">The restore failed.</exception>
    internal static async Task<RestoreSummaryLine> Run(
        TaskMonitor monitor,
        string snapshot,
        string? guestAgent,
        TaskRestore? how,
        Action<RestoreProgressLine> progress,
        CancellationToken cancel,
        string? program = null
    )
    {
        RestoreSummaryLine? summary = null;
        await AgentChild
            .Run(
                Arguments(monitor, snapshot, guestAgent, how),
                "the target's guest does not run: recreate its pod to try again",
                (type, line) =>
                {
                    if (type == "progress")
                        progress(line.Deserialize(MessagesJson.Default.RestoreProgressLine)!);
                    else if (type == "summary")
                        summary = line.Deserialize(MessagesJson.Default.RestoreSummaryLine);
                },
                cancel,
                program: program
            )
            .ConfigureAwait(false);
        return summary ?? throw new TaskFailure(Reasons.InternalError, "the restore ended without a summary");
    }

    /// <summary>Gets the guest's state after the agent of its restore died, and thaws a guest that was captured frozen.</summary>
    /// <param name="monitor">The way to QEMU's monitor, and the container that QEMU must run in.</param>
    /// <param name="snapshot">The snapshot's directory, as a path that the child can open.</param>
    /// <param name="guestAgent">The guest agent's socket, as a path that the child can open; null: the VM has no guest agent.</param>
    /// <param name="cancel">Ends it.</param>
    /// <param name="program">The program; null: this one.</param>
    /// <exception cref="TaskFailure">QEMU did not answer.</exception>
    internal static async Task<RestoredLine> Ask(
        TaskMonitor monitor,
        string snapshot,
        string? guestAgent,
        CancellationToken cancel,
        string? program = null
    )
    {
        RestoredLine? found = null;
        string[] arguments =
        [
            "restored",
            snapshot,
            "--json",
            monitor.Address.Argument,
            "--container=" + monitor.ContainerId,
            .. guestAgent is null ? Array.Empty<string>() : ["--guest-agent=" + guestAgent],
        ];
        await AgentChild
            .Run(
                arguments,
                "the target did not answer",
                (type, line) =>
                {
                    if (type == "summary")
                        found = line.Deserialize(MessagesJson.Default.RestoredLine);
                },
                cancel,
                program: program,
                silence: AskLimit
            )
            .ConfigureAwait(false);
        return found ?? throw new TaskFailure(Reasons.InternalError, "the process that queries the target ended without a result");
    }

    /// <summary>The command line of the restore.</summary>
    internal static IEnumerable<string> Arguments(TaskMonitor monitor, string snapshot, string? guestAgent, TaskRestore? how) =>
        [
            "restore",
            snapshot,
            "--json",
            monitor.Address.Argument,
            "--container=" + monitor.ContainerId,
            "--disks=" + (how?.Disks == "None" ? "none" : "all"),
            "--mode=" + (how?.Mode ?? RestoreMode.Auto).ToLowerInvariant(),
            .. how?.BandwidthLimit is { } rate ? ["--bandwidth-limit=" + rate] : Array.Empty<string>(),
            .. guestAgent is null ? Array.Empty<string>() : ["--guest-agent=" + guestAgent],
        ];
}
