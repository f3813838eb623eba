namespace Bgsnap.NodeAgent.Disks;

/// <summary>What a caller of <see cref="DiskCopy.Run"/> wants to be told, and asked. Everything is called on the thread that
/// called Run.</summary>
internal sealed class DiskCopyHooks
{
    /// <summary>Bytes that will be read, once known. A guess by a little: what was zero may count as data once QEMU has saved
    /// it from an overwrite.</summary>
    public Action<long>? Total { get; init; }

    /// <summary>Bytes read since the last call, for every chunk, before more is asked for in its place. It may sleep, which is
    /// how a bandwidth limit holds the copy back, and throw, which ends it.</summary>
    public Action<long>? Copied { get; init; }

    /// <summary>Everything has been read and no request is under way: the export may be taken down now, while the file is still being
    /// finished and hashed.</summary>
    public Action? Read { get; init; }

    /// <summary>Tell the server what has been read, or is zero, and is not needed again (NBD_CMD_TRIM), where the export allows it:
    /// a copy-before-write filter then no longer saves it from being overwritten, and frees its scratch space.</summary>
    public bool Trim { get; init; }

    /// <summary>What is zero, where the server cannot tell; null: it is asked.</summary>
    public HoleMap? Holes { get; init; }

    /// <inheritdoc cref="Nbd.NbdClient.SingleClusters"/>
    public bool SingleClusters { get; init; }
}

/// <summary>What <see cref="DiskCopy.Run"/> has made.</summary>
/// <param name="VirtualSize">Bytes that the guest sees.</param>
/// <param name="DataBytes">Bytes of the clusters that hold anything but zeros.</param>
/// <param name="StoredBytes">Bytes of the file.</param>
/// <param name="Checksum">Of the file, in the manifest's form: <c>sha256:</c> and 64 hex digits.</param>
internal sealed record DiskCopyResult(long VirtualSize, long DataBytes, long StoredBytes, string Checksum);
