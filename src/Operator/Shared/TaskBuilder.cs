using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Operator.Shared;

/// <summary>Builds the part that every task for an agent has.</summary>
internal static class TaskBuilder
{
    /// <summary>Labels of a task for the agent of a node.</summary>
    public static (string Key, string Value) ForNode(string node) => (Names.NodeLabel, Names.NodeLabelValue(node));

    /// <summary>Builds a task.</summary>
    /// <param name="metadata">Name, owner and labels, <see cref="ForNode"/> among them.</param>
    /// <param name="action">What the agent has to do; see <see cref="TaskAction"/>.</param>
    /// <param name="node">The node whose agent takes the task.</param>
    /// <param name="directory">The snapshot's directory on the claim.</param>
    /// <param name="carrier">The pod that mounts the claim.</param>
    public static SnapshotTask Build(V1ObjectMeta metadata, string action, string node, string directory, PodSummary carrier) =>
        new()
        {
            Metadata = metadata,
            Spec = new SnapshotTaskSpec
            {
                Action = action,
                NodeName = node,
                Directory = directory,
                Carrier = new PodTarget
                {
                    PodName = carrier.Metadata.Name,
                    PodUID = carrier.Metadata.Uid,
                    Container = Names.CarrierContainer,
                },
            },
        };
}
