using Bgsnap.Crds.Kinds;

namespace Bgsnap.Operator.VolumeSnapshots;

/// <summary>Maps the paths in a container to claims. Pure.</summary>
internal sealed class PodClaims
{
    private readonly List<(string Path, string? Claim)> _mounts;
    private readonly Dictionary<string, string> _devices;

    private PodClaims(List<(string Path, string? Claim)> mounts, Dictionary<string, string> devices) =>
        (_mounts, _devices) = (mounts, devices);

    /// <summary>Reads a pod.</summary>
    public static PodClaims Of(PodSummary pod, string container)
    {
        Dictionary<string, string> claims = (pod.Spec?.Volumes ?? [])
            .Where(v => v.Name is not null && v.PersistentVolumeClaim is not null)
            .ToDictionary(v => v.Name!, v => v.PersistentVolumeClaim!.ClaimName);
        ContainerSummary? of = pod.Spec?.Containers?.FirstOrDefault(c => c.Name == container);
        // The deepest mount above a path holds it, whether that mount is a claim or not.
        return new PodClaims(
            [
                .. (of?.VolumeMounts ?? [])
                    .Select(m => (m.MountPath.TrimEnd('/') + "/", claims.GetValueOrDefault(m.Name)))
                    .OrderByDescending(m => m.Item1.Length),
            ],
            (of?.VolumeDevices ?? []).Where(d => claims.ContainsKey(d.Name)).ToDictionary(d => d.DevicePath, d => claims[d.Name])
        );
    }

    /// <summary>All claims that the container uses.</summary>
    public IReadOnlyList<string> All =>
        [.. _mounts.Select(m => m.Claim).OfType<string>().Concat(_devices.Values).Distinct().Order(StringComparer.Ordinal)];

    /// <summary>The claim that a file or block device is on, or null.</summary>
    public string? At(string path) =>
        _devices.GetValueOrDefault(path) ?? _mounts.FirstOrDefault(m => path.StartsWith(m.Path, StringComparison.Ordinal)).Claim;
}
