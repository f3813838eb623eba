using System.Text;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Vocabulary;

namespace Bgsnap.Manifests;

/// <summary>The page of all reasons, <c>docs/reasons.md</c>. The tests compile this file too.</summary>
internal static class ReasonsPage
{
    private static readonly (ReasonFamily Family, string Title, string Lead)[] Sections =
    [
        (
            ReasonFamily.Refused,
            "Refused before anything began",
            "The node agent has not touched the guest. On the command line: exit code 3, unless the table says otherwise."
        ),
        (
            ReasonFamily.Abandoned,
            "Begun and abandoned",
            "The node agent gave up: the guest runs and no snapshot is left (after a restore: the target's guest does not run)."
        ),
        (ReasonFamily.AgentRestore, "Restores on the node", "What else a restore by the node agent ends with."),
        (ReasonFamily.CommandLine, "Other exit codes", "The remaining exit codes of `bgsnap-agent`."),
        (
            ReasonFamily.Task,
            "Tasks of the node agent",
            "The operator copies them to the snapshot or restore that the task belongs to. They have no exit code."
        ),
        (ReasonFamily.Snapshot, "Snapshots", "From the operator; some of them also on restores and schedules."),
        (ReasonFamily.Restore, "Restores", "From the operator, on a `VMBackgroundRestore`."),
        (
            ReasonFamily.KubeVirt,
            "KubeVirt",
            "From the operator, when the source or the target is a KubeVirt VM ([kubevirt.md](kubevirt.md))."
        ),
        (ReasonFamily.VolumeSnapshot, "VolumeSnapshots", "From the operator, with `diskMethod: VolumeSnapshot` ([disks.md](disks.md))."),
        (ReasonFamily.Schedule, "Schedules", "From the operator, on a `VMBackgroundSnapshotSchedule` ([schedules.md](schedules.md))."),
    ];

    /// <summary>The text of the page.</summary>
    internal static string Text()
    {
        StringBuilder page = new(
            """
            <!-- Made by `make reasons` from src/Vocabulary/Reasons.*.cs. Change it there. -->
            # Reasons

            Every reason that a condition, an event, a task or `bgsnap-agent --json` can name. The message beside it says which object,
            what happened and what to do; [troubleshooting.md](troubleshooting.md) has what goes beyond one line. Whatever the reason, the
            captured guest runs on.

            A reason of the node agent (the first five tables) is the reason of its task, and the operator copies it to the condition
            `Ready` of the snapshot or restore, which has then failed. In the tables, *not Ready yet* means that the operator waits and
            tries again until the deadline, *failed* that the object has ended, and *another condition* that the reason is on a condition
            other than `Ready`.

            """
        );
        foreach ((ReasonFamily family, string title, string lead) in Sections)
        {
            page.Append(Head(title, lead));
            foreach (Reason reason in Reasons.All.Where(r => r.Family == family))
                page.Append(Row(reason));
        }
        return page.ToString();
    }

    private static string Head(string title, string lead) =>
        $"\n## {title}\n\n{lead}\n\n| Reason | Seen as | What it means | What to do |\n|---|---|---|---|\n";

    private static string Row(Reason r) => $"| `{r.Name}` | {r.SeenAs} | {Cell(r.Meaning)} | {Cell(r.Remedy)} |\n";

    private static string Cell(string text) => text.Replace("|", "\\|", StringComparison.Ordinal);
}
