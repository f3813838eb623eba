using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Runs <c>free --json</c> in a process of its own, because that command talks to a tenant's QEMU and guest.</summary>
internal static class FreeChild
{
    // Longer than the command waits for a guest agent.
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(3);

    /// <summary>Removes from a guest what captures that died have left.</summary>
    /// <param name="monitor">The way to QEMU's monitor, and the container that QEMU must run in.</param>
    /// <param name="guestAgent">The guest agent's socket, as a path that the child can open; null: the VM has no guest agent.</param>
    /// <param name="cancel">Ends it.</param>
    /// <param name="program">The program; null: this one.</param>
    /// <returns>The guest's state.</returns>
    /// <exception cref="TaskFailure">QEMU did not answer, or the guest is not thawed.</exception>
    internal static async Task<FreedLine> Run(TaskMonitor monitor, string? guestAgent, CancellationToken cancel, string? program = null)
    {
        FreedLine? freed = null;
        string[] arguments =
        [
            "free",
            "--json",
            monitor.Address.Argument,
            "--container=" + monitor.ContainerId,
            .. guestAgent is null ? Array.Empty<string>() : ["--guest-agent=" + guestAgent],
        ];
        try
        {
            await AgentChild
                .Run(
                    arguments,
                    "the guest may still be stopped or frozen",
                    (type, line) =>
                    {
                        if (type == "summary")
                            freed = line.Deserialize(MessagesJson.Default.FreedLine);
                    },
                    cancel,
                    program: program,
                    silence: Limit
                )
                .ConfigureAwait(false);
        }
        catch (TaskFailure) when (freed?.NotThawed is { } why)
        {
            throw new TaskFailure(Reasons.GuestFrozen, $"{why}; {freed.Guest}");
        }
        return freed ?? throw new TaskFailure(Reasons.InternalError, "the process that frees the guest ended without a result");
    }
}
