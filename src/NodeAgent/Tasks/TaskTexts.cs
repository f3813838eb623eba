using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Texts that say what a cancelled task leaves behind, for its message.</summary>
internal static class TaskTexts
{
    internal static string After(string action) =>
        action switch
        {
            TaskAction.Restore => "the target's guest does not run: its pod must be made anew to restore again",
            TaskAction.RestoreDisks => "the disks are written in part: restore them again, or delete the claims",
            TaskAction.Describe => "nothing was changed: it is read again when it is tried again",
            TaskAction.Delete => "part of the snapshot may be left: it is deleted when it is tried again",
            _ => "nothing was kept. Create another snapshot",
        };
}
