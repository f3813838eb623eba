namespace Bgsnap.SnapshotFormat.Store;

/// <summary>What the writer of a page log does with the non-zero pages.</summary>
public enum PageCompression
{
    /// <summary>Store them as they are.</summary>
    None = 0,

    /// <summary>LZ4 block format: fast, moderate savings.</summary>
    Lz4 = 1,

    /// <summary>Zstandard frames: slower, better savings.</summary>
    Zstd = 2,
}

/// <summary>How one granule is stored.</summary>
public enum GranuleEncoding
{
    /// <summary>Nothing is stored: every page is zero.</summary>
    Zero = 0,

    /// <summary>The pages as they are.</summary>
    Raw = 1,

    /// <summary>One LZ4 block.</summary>
    Lz4 = 2,

    /// <summary>One Zstandard frame that states its content size.</summary>
    Zstd = 3,
}
