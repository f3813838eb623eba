using k8s.Models;

namespace Bgsnap.Crds.V1Alpha1;

/// <summary>What the status of every kind of ours has.</summary>
public interface IConditionedStatus
{
    /// <summary>Generation that the status is about.</summary>
    long? ObservedGeneration { get; set; }

    /// <summary>One word for people.</summary>
    string? Phase { get; set; }

    /// <summary>Conditions; see <see cref="ConditionTypes"/>.</summary>
    List<V1Condition>? Conditions { get; set; }
}
