namespace Bgsnap.Operator.Shared;

/// <summary>Messages while a task waits for its agent.</summary>
internal static class AgentMessages
{
    /// <summary>The task has just been created.</summary>
    public static string WaitingFor(string node) => $"waiting for the agent on node {node} to start";

    /// <summary>No agent has taken the task for a while.</summary>
    public static string Silent(string node) =>
        $"no agent on node {node} has taken the task: check that the pod of the bgsnap agent runs on that node (kubectl get pods -A "
        + "-l app.kubernetes.io/component=agent -o wide)";
}
