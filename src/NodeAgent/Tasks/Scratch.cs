namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Where a capture keeps what the guest overwrites on its disks, and how much that may be.</summary>
/// <param name="Directory">The directory; null: the command's own default.</param>
/// <param name="Limit">Bytes for one capture; null: the command's own default.</param>
internal sealed record Scratch(string? Directory, long? Limit)
{
    /// <summary>The share of one of several captures.</summary>
    /// <param name="directory">The directory.</param>
    /// <param name="size">Its size: past it the kubelet evicts the agent, and with it every capture of the node, so that a tenth is
    /// left.</param>
    /// <param name="captures">Captures at once, at least 1.</param>
    internal static Scratch Shared(string? directory, long? size, int captures) =>
        new(directory, size is { } s ? s / 10 * 9 / Math.Max(1, captures) : null);
}
