using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// Converts the manifest to bytes and back. The document ends with its own checksum over every byte before the digits; the few bytes around
/// and after them are compared one by one. So no byte can change unnoticed.
/// </summary>
public static class ManifestJson
{
    private const int HexLength = 64;

    private static readonly ManifestJsonContext Context = new(
        new JsonSerializerOptions
        {
            WriteIndented = true,
            NewLine = "\n",
            PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
            RespectNullableAnnotations = true,
            RespectRequiredConstructorParameters = true,
            AllowDuplicateProperties = false,
            // The file is not HTML: keep the arguments readable.
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        }
    );

    private static ReadOnlySpan<byte> Head => ",\n  \"checksum\": \"sha256:"u8;

    private static ReadOnlySpan<byte> Tail => "\"\n}\n"u8;

    /// <summary>The file's bytes.</summary>
    /// <exception cref="ArgumentException">The manifest is above 16 MiB.</exception>
    public static byte[] Write(Manifest manifest)
    {
        ReadOnlySpan<byte> json = JsonSerializer.SerializeToUtf8Bytes(manifest, Context.Manifest);
        byte[] bytes = [.. json[..^"\n}".Length], .. Head, .. stackalloc byte[HexLength], .. Tail];
        int digits = bytes.Length - Tail.Length - HexLength;
        Encoding.ASCII.GetBytes(Sha256.HexOf(bytes.AsSpan(0, digits)), bytes.AsSpan(digits));
        return bytes.Length <= FormatV1.MaxManifestSize
            ? bytes
            : throw new ArgumentException($"a manifest of {bytes.Length} bytes is above {FormatV1.MaxManifestSize}", nameof(manifest));
    }

    /// <summary>Checks and reads the file's bytes.</summary>
    /// <param name="bytes">The whole file.</param>
    /// <param name="file">Its name in errors.</param>
    /// <exception cref="SnapshotCorruptException">Checksum, form or content are wrong.</exception>
    public static Manifest Read(ReadOnlySpan<byte> bytes, string file)
    {
        if (bytes.Length > FormatV1.MaxManifestSize)
            throw new SnapshotCorruptException(file, FormatV1.MaxManifestSize, "the manifest is too long");
        CheckEnd(bytes, file);
        Manifest manifest = Parse(bytes, file);
        if (Problem(manifest) is { } problem)
            throw new SnapshotCorruptException(file, 0, problem);
        return manifest;
    }

    private static void CheckEnd(ReadOnlySpan<byte> bytes, string file)
    {
        int digits = bytes.Length - Tail.Length - HexLength;
        if (digits < Head.Length || !bytes[..digits].EndsWith(Head) || !bytes.EndsWith(Tail))
            throw new SnapshotCorruptException(file, Math.Max(0, digits - Head.Length), "the manifest does not end with its checksum");
        string stated = Encoding.ASCII.GetString(bytes.Slice(digits, HexLength));
        if (!string.Equals(stated, Sha256.HexOf(bytes[..digits]), StringComparison.Ordinal))
            throw new SnapshotCorruptException(file, digits, "the manifest's checksum is wrong");
    }

    private static Manifest Parse(ReadOnlySpan<byte> bytes, string file)
    {
        try
        {
            return JsonSerializer.Deserialize(bytes, Context.Manifest)
                ?? throw new SnapshotCorruptException(file, 0, "the manifest is null");
        }
        catch (JsonException e)
        {
            throw new SnapshotCorruptException(file, OffsetOf(bytes, e), $"the manifest cannot be read: {e.Message}");
        }
    }

    /// <summary>What is invalid in a well-formed manifest, or null.</summary>
    internal static string? Problem(Manifest m)
    {
        if (m.FormatVersion != FormatV1.ManifestVersion)
            return $"format version {m.FormatVersion} is not {FormatV1.ManifestVersion}, the one this program reads";
        if (m.Kind != FormatV1.ManifestKind)
            return $"kind {m.Kind} is not {FormatV1.ManifestKind}";
        if (
            m.Ram.Blocks.Any(b => b is null)
            || m.Files.Any(f => f is null)
            || m.Disks.Any(d => d is null)
            || m.Machine.Arguments.Any(a => a is null)
            || m.Capture.Timeline.Any(t => t is null)
            || m.Machine.Devices?.Any(d => d is null || d.Properties?.Values.Any(v => v is null) == true) == true
        )
            return "a list holds null";
        var blocks = m.Ram.Blocks.Select(b => new RamBlockLayout(b.Name, b.UsedLength, b.PageSize)).ToList();
        if (RamBlockLayout.Problem(blocks) is { } problem)
            return problem;
        var names = new HashSet<string>(StringComparer.Ordinal);
        long bytes = 0;
        foreach (ManifestFile f in m.Files)
        {
            if (!IsFileName(f.Name))
                return $"{f.Name} is not a file of a snapshot";
            if (f.Size < 0 || !names.Add(f.Name))
                return $"file {f.Name} is listed twice or has a negative size";
            // Keeps the sum in range for code that adds the sizes up, for a status or a restore.
            if (f.Size > long.MaxValue - bytes - FormatV1.MaxManifestSize)
                return $"file {f.Name}: the sizes of all files together are impossible";
            bytes += f.Size;
        }
        return DisksProblem(m);
    }

    private static string? DisksProblem(Manifest m)
    {
        var names = new HashSet<string>(StringComparer.Ordinal);
        var files = new HashSet<string>(StringComparer.Ordinal);
        long data = 0;
        foreach (ManifestDisk disk in m.Disks)
        {
            if (disk.Problem() is { } problem)
                return problem;
            if (!names.Add(disk.Name))
                return $"two disks are named {disk.Name}";
            if (disk.DataBytes > long.MaxValue - data)
                return $"disk {disk.Name}: the data of all disks together is impossible";
            data += disk.DataBytes;
            if (disk.File is null)
            {
                if (disk.StoredBytes != 0)
                    return $"disk {disk.Name} has {disk.StoredBytes} bytes stored, and no file";
                continue;
            }
            if (!files.Add(disk.File))
                return $"two disks have the file {disk.File}";
            // A listed file has a name that cannot lead out of the directory.
            if (m.Files.FirstOrDefault(f => f.Name == disk.File) is not { } file)
                return $"{disk.File} of disk {disk.Name} is not listed";
            if (disk.StoredBytes != file.Size)
                return $"disk {disk.Name} has {disk.StoredBytes} bytes stored, its file {file.Size}";
        }
        return null;
    }

    /// <summary>Whether a name has one or two parts, none of them hidden: such a name cannot lead out of the directory.</summary>
    internal static bool IsFileName(string name)
    {
        string[] parts = name.Split('/');
        return parts.Length <= 2
            && name != FormatV1.ManifestFileName
            && parts.All(p => p.Length is > 0 and <= 255 && p[0] != '.' && !p.Contains('\0', StringComparison.Ordinal));
    }

    private static long OffsetOf(ReadOnlySpan<byte> bytes, JsonException e)
    {
        long at = 0;
        for (long line = e.LineNumber ?? 0; line > 0 && bytes[(int)at..].IndexOf((byte)'\n') is var end and >= 0; line--)
            at += end + 1;
        return at + (e.BytePositionInLine ?? 0);
    }
}

/// <summary>RFC 3339 in UTC with exactly six decimals.</summary>
internal sealed class MicrosecondTimeConverter : JsonConverter<DateTimeOffset>
{
    public override DateTimeOffset Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.String && reader.TryGetDateTimeOffset(out DateTimeOffset time)
            ? time.ToUniversalTime()
            : throw new JsonException("not an RFC 3339 time");

    public override void Write(Utf8JsonWriter writer, DateTimeOffset value, JsonSerializerOptions options) =>
        writer.WriteStringValue(value.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture));
}

[JsonSerializable(typeof(Manifest))]
internal sealed partial class ManifestJsonContext : JsonSerializerContext;
