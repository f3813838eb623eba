namespace Bgsnap.Engine.Disks;

/// <summary>Callbacks and options for <see cref="DiskCopy.Run"/>. All callbacks run on the thread that called Run.</summary>
internal sealed class DiskCopyHooks
{
    /// <summary>
    /// Bytes that will be read, once known. The figure is approximate: what was zero may count as data once QEMU has saved it from an
    /// overwrite.
    /// </summary>
    public Action<long>? Total { get; init; }

    /// <summary>
    /// Bytes read since the last call; called for every chunk, before the next one is requested. It may sleep, which is how a bandwidth
    /// limit slows the copy, and it may throw, which ends the copy.
    /// </summary>
    public Action<long>? Copied { get; init; }

    /// <summary>
    /// Everything has been read and no request is in progress: the export may be removed now, while the file is still being finished and
    /// hashed.
    /// </summary>
    public Action? Read { get; init; }

    /// <summary>
    /// Whether to tell the server what has been read, or is zero, and is no longer needed (NBD_CMD_TRIM), if the export allows it: a
    /// copy-before-write filter then no longer saves it from being overwritten, and frees its scratch space.
    /// </summary>
    public bool Trim { get; init; }

    /// <summary>The disk's zeros, if the server cannot report them; null to ask the server.</summary>
    public HoleMap? Holes { get; init; }

    /// <inheritdoc cref="Nbd.NbdClient.SingleClusters"/>
    public bool SingleClusters { get; init; }
}

/// <summary>The result of <see cref="DiskCopy.Run"/>.</summary>
/// <param name="VirtualSize">Bytes that the guest sees.</param>
/// <param name="DataBytes">Bytes of the clusters that hold anything but zeros.</param>
/// <param name="StoredBytes">Bytes of the file.</param>
/// <param name="Checksum">The file's checksum in the manifest's form: <c>sha256:</c> and 64 hex digits.</param>
internal sealed record DiskCopyResult(long VirtualSize, long DataBytes, long StoredBytes, string Checksum);
