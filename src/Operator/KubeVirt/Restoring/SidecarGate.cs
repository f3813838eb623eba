using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;

namespace Bgsnap.Operator.KubeVirt.Restoring;

/// <summary>KubeVirt's feature gate Sidecar, without which it rejects the hook sidecar of a restored VM.</summary>
internal static class SidecarGate
{
    /// <summary>Whether KubeVirt's message says that the gate is off.</summary>
    public static bool IsOff(string message) => message.Contains("sidecar feature gate", StringComparison.OrdinalIgnoreCase);

    /// <summary>The restore waits until the gate is on.</summary>
    /// <param name="why">KubeVirt's message.</param>
    public static NotReadyException Wait(string why) =>
        new(Reasons.SidecarsNotEnabled, Message(why)) { Phase = RestorePhase.Starting, Again = TimeSpan.FromSeconds(30) };

    /// <summary>The restore fails: an existing VM must not stay stopped until the gate is on.</summary>
    /// <param name="why">KubeVirt's message.</param>
    public static TerminalException Fail(string why) => new(Reasons.SidecarsNotEnabled, Message(why) + ", then create another restore");

    private static string Message(string why) =>
        $"KubeVirt rejects hook sidecars, which a restore needs ({why}): add Sidecar to "
        + "spec.configuration.developerConfiguration.featureGates of the KubeVirt object";
}
