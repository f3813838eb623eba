// THE NBD PROTOCOL, the part that is spoken here. Everything is big-endian.
// Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; QEMU's side is nbd/server.c.
//
//   server                                        client
//   "NBDMAGIC" "IHAVEOPT" u16 flags        ──▶
//                                          ◀──    u32 flags
//                                          ◀──    option STRUCTURED_REPLY, SET_META_CONTEXT, GO: "IHAVEOPT" u32 option u32 length …
//   u64 magic u32 option u32 type u32 length … ─▶   one or more replies to each option, the last is ACK or an error
//   ─ ─ ─ transmission, after GO was acknowledged ─ ─ ─
//                                          ◀──    28 bytes: magic, flags, command, cookie, offset, length
//   20 bytes: magic, flags, type, cookie, length, then the chunk; the last chunk of a reply has the flag DONE   ──▶

namespace Bgsnap.Engine.Disks.Nbd;

/// <summary>The protocol's numbers, under its names.</summary>
internal static class NbdProtocol
{
    public const ulong NBDMAGIC = 0x4e42444d41474943,
        IHAVEOPT = 0x49484156454f5054,
        OptionReplyMagic = 0x0003e889045565a9;
    public const uint RequestMagic = 0x25609513,
        SimpleReplyMagic = 0x67446698,
        StructuredReplyMagic = 0x668e33ef;

    public const ushort NBD_FLAG_FIXED_NEWSTYLE = 1,
        NBD_FLAG_NO_ZEROES = 2;
    public const uint NBD_OPT_GO = 7,
        NBD_OPT_STRUCTURED_REPLY = 8,
        NBD_OPT_SET_META_CONTEXT = 10;
    public const uint NBD_REP_ACK = 1,
        NBD_REP_INFO = 3,
        NBD_REP_META_CONTEXT = 4,
        NBD_REP_FLAG_ERROR = 1u << 31;
    public const uint NBD_REP_ERR_UNKNOWN = NBD_REP_FLAG_ERROR + 6;
    public const ushort NBD_INFO_EXPORT = 0,
        NBD_INFO_BLOCK_SIZE = 3;
    public const ushort NBD_FLAG_HAS_FLAGS = 1,
        NBD_FLAG_READ_ONLY = 2,
        NBD_FLAG_SEND_TRIM = 1 << 5,
        NBD_FLAG_SEND_DF = 1 << 7;
    public const ushort NBD_CMD_FLAG_DF = 1 << 2,
        NBD_CMD_FLAG_REQ_ONE = 1 << 3;

    public const ushort NBD_REPLY_FLAG_DONE = 1;
    public const ushort NBD_REPLY_TYPE_NONE = 0,
        NBD_REPLY_TYPE_OFFSET_DATA = 1,
        NBD_REPLY_TYPE_OFFSET_HOLE = 2,
        NBD_REPLY_TYPE_BLOCK_STATUS = 5,
        NBD_REPLY_TYPE_FLAG_ERROR = 1 << 15;
    public const uint NBD_STATE_ZERO = 2,
        NBD_STATE_DIRTY = 1;

    public const string BaseAllocation = "base:allocation";

    /// <summary>QEMU's context of a dirty bitmap; the bitmap's name follows.</summary>
    public const string DirtyBitmap = "qemu:dirty-bitmap:";

    /// <summary>Longest string that the protocol allows, in bytes.</summary>
    public const int MaxString = 4096;

    /// <summary>The longest option reply that the client reads, in bytes: a string and a few numbers.</summary>
    public const int MaxOptionReply = MaxString + 64;

    /// <summary>The most bytes per request for a server that states no limit.</summary>
    public const uint DefaultMaximumBlock = 32 << 20;
}

/// <summary>Commands of the transmission phase.</summary>
internal enum NbdCommand : ushort
{
    Read = 0,
    Trim = 4,
    BlockStatus = 7,
}

/// <summary>The server's description of a run of the export.</summary>
/// <param name="Offset">Where it begins, in bytes.</param>
/// <param name="Length">Its bytes.</param>
/// <param name="IsZero">Whether it reads as zeros; for a dirty bitmap: whether it is marked.</param>
internal readonly record struct NbdExtent(long Offset, long Length, bool IsZero);

/// <summary>The negotiated properties of an export.</summary>
/// <param name="Size">Bytes of the export.</param>
/// <param name="CanTrim">Whether the server accepts NBD_CMD_TRIM.</param>
/// <param name="CanReadWhole">Whether the server can answer a read in one chunk on request.</param>
/// <param name="MinimumBlock">Offsets and lengths are multiples of it, a power of two up to 64 KiB.</param>
/// <param name="MaximumBlock">The most bytes that one request may read.</param>
/// <param name="AllocationContext">Id of the context that block status reports; null if the server cannot report it.</param>
internal sealed record NbdExport(long Size, bool CanTrim, bool CanReadWhole, uint MinimumBlock, uint MaximumBlock, uint? AllocationContext);
