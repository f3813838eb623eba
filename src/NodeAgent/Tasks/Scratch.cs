namespace Bgsnap.NodeAgent.Tasks;

/// <summary>Where a capture keeps the disk content that the guest overwrites, and how much it may keep.</summary>
/// <param name="Directory">The directory; null: the command's own default.</param>
/// <param name="Limit">Bytes for one capture; null: the command's own default.</param>
internal sealed record Scratch(string? Directory, long? Limit)
{
    /// <summary>One capture's share when several run at once.</summary>
    /// <param name="directory">The directory.</param>
    /// <param name="size">Its size. Past it the kubelet evicts the agent, and with it every capture of the node, so a tenth is kept
    /// free.</param>
    /// <param name="captures">Captures at once, at least 1.</param>
    internal static Scratch Shared(string? directory, long? size, int captures) =>
        new(directory, size is { } s ? s / 10 * 9 / Math.Max(1, captures) : null);
}
