using System.Buffers.Binary;
using System.Text;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>Reads the subsections that may follow the machine type in the configuration section.</summary>
/// <remarks>
/// <code>
///   05  u8 length, name  be32 version
///       configuration/target-page-bits   be32 bits
///       configuration/capabilities       be32 count { u8 length, name }
///       configuration/uuid               16 bytes
/// </code>
/// Source: <c>vmstate_configuration</c> in <c>migration/savevm.c</c>.
/// </remarks>
internal static class ConfigurationSubsection
{
    /// <summary>Reads one subsection.</summary>
    /// <returns>Bytes read; 0 if it is not complete yet.</returns>
    /// <exception cref="MigrationStreamException">RAM comes in a form that we do not read.</exception>
    public static int Parse(ReadOnlySpan<byte> input, long position)
    {
        if (input.Length < 2 || input.Length < 2 + input[1] + 4)
            return 0;
        int at = 2 + input[1];
        ReadOnlySpan<byte> name = input[2..at];
        uint version = BinaryPrimitives.ReadUInt32BigEndian(input[at..]);
        at += 4;
        ReadOnlySpan<byte> fields = input[at..];
        if (version == 1 && name.SequenceEqual("configuration/uuid"u8))
            return fields.Length < 16 ? 0 : at + 16;
        if (version == 1 && name.SequenceEqual("configuration/target-page-bits"u8))
            return fields.Length < 4 ? 0 : at + CheckPageBits(fields, position + at);
        if (version == 1 && name.SequenceEqual("configuration/capabilities"u8))
        {
            int length = CheckCapabilities(fields, position + at);
            return length == 0 ? 0 : at + length;
        }
        string shown = MigrationFormat.IsName(name) ? Encoding.ASCII.GetString(name) : Convert.ToHexString(name);
        throw new MigrationStreamException($"The configuration has '{shown}', version {version}, which is unknown.", position);
    }

    private static int CheckPageBits(ReadOnlySpan<byte> fields, long position)
    {
        uint bits = BinaryPrimitives.ReadUInt32BigEndian(fields);
        return bits == MigrationFormat.PageBits
            ? 4
            : throw new MigrationStreamException($"The guest's pages have 2^{bits} bytes; only 4096 are known.", position);
    }

    private static int CheckCapabilities(ReadOnlySpan<byte> fields, long position)
    {
        if (fields.Length < 4)
            return 0;
        if (BinaryPrimitives.ReadUInt32BigEndian(fields) == 0)
            return 4;
        if (fields.Length < 5 || fields.Length < 5 + fields[4])
            return 0;
        // QEMU lists only capabilities that change what is in the stream, such as x-ignore-shared and mapped-ram.
        ReadOnlySpan<byte> name = fields.Slice(5, fields[4]);
        string shown = MigrationFormat.IsName(name) ? Encoding.ASCII.GetString(name) : Convert.ToHexString(name);
        throw new MigrationStreamException($"The migration capability '{shown}' must be off.", position);
    }
}
