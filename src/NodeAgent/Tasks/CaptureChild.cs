using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Runs <c>capture --json</c> in a process of its own; if that process dies, the guest is freed.
/// </summary>
internal static class CaptureChild
{
    // It writes ten lines a second, and one a second while it cleans up after a dead capture.
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(30);

    /// <summary>Captures, and returns the last line.</summary>
    /// <param name="order">What to capture, where to, and how.</param>
    /// <param name="progress">Called for each line of progress.</param>
    /// <param name="cancel">Ends the capture in good order; the guest is freed.</param>
    /// <param name="word">The line that releases a guest that is held for VolumeSnapshots.</param>
    /// <param name="program">The program; null: this one.</param>
    /// <exception cref="TaskFailure">The capture failed.</exception>
    internal static async Task<SummaryLine> Run(
        CaptureOrder order,
        Action<ProgressLine> progress,
        CancellationToken cancel,
        Task<string>? word = null,
        string? program = null
    )
    {
        SummaryLine? summary = null;
        await AgentChild
            .Run(
                order.Arguments(),
                "nothing was kept",
                (type, line) =>
                {
                    if (type == "progress")
                        progress(line.Deserialize(MessagesJson.Default.ProgressLine)!);
                    else if (type == "summary")
                        summary = line.Deserialize(MessagesJson.Default.SummaryLine);
                },
                cancel,
                word,
                program,
                Silence
            )
            .ConfigureAwait(false);
        return summary ?? throw new TaskFailure(Reasons.InternalError, "the capture ended without a summary");
    }
}
