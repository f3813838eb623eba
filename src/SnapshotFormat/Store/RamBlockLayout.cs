using System.Numerics;
using System.Text;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>One RAM block of the machine.</summary>
/// <param name="Name">QEMU's idstr, such as <c>pc.ram</c>; 1 to 255 bytes of UTF-8.</param>
/// <param name="UsedLength">Bytes in use, a multiple of 4096.</param>
/// <param name="HostPageSize">Bytes of a host page under it: 4096, or a huge page's size; a power of two.</param>
public sealed record RamBlockLayout(string Name, ulong UsedLength, uint HostPageSize)
{
    // Throws on invalid UTF-16: such a name cannot have come from QEMU.
    internal static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Why these blocks cannot be one machine's RAM, or null. The same rules apply to writer and reader.</summary>
    internal static string? Problem(IReadOnlyList<RamBlockLayout> blocks)
    {
        if (blocks.Count > FormatV1.MaxBlocks)
            return $"{blocks.Count} blocks are more than {FormatV1.MaxBlocks}";
        var names = new HashSet<string>(StringComparer.Ordinal);
        ulong total = 0;
        foreach (RamBlockLayout block in blocks)
        {
            if (NameProblem(block.Name) is { } problem)
                return problem;
            if (!names.Add(block.Name))
                return $"block {block.Name} appears twice";
            if (block.UsedLength % FormatV1.PageSize != 0)
                return $"block {block.Name}: used length {block.UsedLength} is not a multiple of {FormatV1.PageSize}";
            // Each length is checked before it is added, so the sum cannot wrap.
            if (block.UsedLength > FormatV1.MaxTotalRam || (total += block.UsedLength) > FormatV1.MaxTotalRam)
                return $"block {block.Name}: total length is above {FormatV1.MaxTotalRam} bytes";
            if (block.HostPageSize < FormatV1.PageSize || !BitOperations.IsPow2(block.HostPageSize))
                return $"block {block.Name}: host page size {block.HostPageSize} does not exist";
        }
        return null;
    }

    /// <summary>Number of granules of all blocks; call only after <see cref="Problem"/> returned null.</summary>
    internal static long TotalGranules(IReadOnlyList<RamBlockLayout> blocks)
    {
        long total = 0;
        foreach (RamBlockLayout block in blocks)
            total += FormatV1.GranuleCount(block.UsedLength);
        return total;
    }

    private static string? NameProblem(string name)
    {
        try
        {
            int length = StrictUtf8.GetByteCount(name);
            if (length is < 1 or > FormatV1.MaxBlockName)
                return $"a block name of {length} bytes";
        }
        catch (EncoderFallbackException)
        {
            return "a block name is not UTF-8";
        }
        return name.Contains('\0', StringComparison.Ordinal) ? "a block name holds a NUL" : null;
    }
}
