using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Texts that say what a cancelled task leaves behind, for its message.</summary>
internal static class TaskMessages
{
    internal static string After(string action) =>
        action switch
        {
            TaskAction.Restore => "the target's guest does not run: recreate its pod to restore again",
            TaskAction.RestoreDisks => "the disks are written in part: restore them again, or delete the claims",
            TaskAction.Describe => "nothing was changed: the operator tries again",
            TaskAction.Delete => "part of the snapshot may be left: the operator deletes it when it tries again",
            _ => "nothing was kept. Create another snapshot",
        };
}
