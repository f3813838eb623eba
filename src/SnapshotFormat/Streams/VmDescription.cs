using System.Text.Json;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>One device of a <see cref="VmDescription"/>.</summary>
/// <param name="Name">Name of its section.</param>
/// <param name="InstanceId">Distinguishes sections of that name.</param>
public readonly record struct DescribedDevice(string Name, uint InstanceId);

/// <summary>
/// The JSON that QEMU appends to a stream unless the machine has <c>suppress-vmdesc=on</c>: it lists the device sections in order. We keep
/// only what names a section; the layout of its fields concerns only QEMU.
/// </summary>
public sealed class VmDescription
{
    private VmDescription(IReadOnlyList<DescribedDevice> devices) => Devices = devices;

    /// <summary>The device sections in the order of the stream.</summary>
    public IReadOnlyList<DescribedDevice> Devices { get; }

    /// <summary>Reads the description.</summary>
    /// <param name="json">The JSON text, UTF-8.</param>
    /// <param name="offset">Its offset in the stream, for errors.</param>
    /// <returns>Null for <c>{}</c>, which <see cref="MigrationStreamWriter"/> writes there.</returns>
    /// <exception cref="MigrationStreamException">It is not JSON, or does not describe devices.</exception>
    public static VmDescription? Parse(ReadOnlySpan<byte> json, long offset)
    {
        // Fields of nested structures nest too; the default of 64 would be close to what big devices have.
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = 512 });
        try
        {
            return ParseObject(ref reader);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw new MigrationStreamException(
                $"The description of the device state is damaged: {e.Message}",
                offset + reader.BytesConsumed,
                e
            );
        }
    }

    private static VmDescription? ParseObject(ref Utf8JsonReader reader)
    {
        List<DescribedDevice>? devices = null;
        Expect(ref reader, JsonTokenType.StartObject);
        while (NextProperty(ref reader))
        {
            if (reader.ValueTextEquals("devices"u8) && devices is null)
                devices = ParseDevices(ref reader);
            else
                SkipValue(ref reader);
        }
        if (reader.Read())
            throw new JsonException("there is more than one value");
        return devices is null ? null : new VmDescription(devices);
    }

    private static List<DescribedDevice> ParseDevices(ref Utf8JsonReader reader)
    {
        var devices = new List<DescribedDevice>();
        Expect(ref reader, JsonTokenType.StartArray);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.StartObject)
                throw new JsonException("a device is not an object");
            if (devices.Count == MigrationFormat.MaxSections)
                throw new JsonException($"there are more than {MigrationFormat.MaxSections} devices");
            devices.Add(ParseDevice(ref reader));
        }
        return devices;
    }

    private static DescribedDevice ParseDevice(ref Utf8JsonReader reader)
    {
        string? name = null;
        uint? instance = null;
        while (NextProperty(ref reader))
        {
            if (reader.ValueTextEquals("name"u8) && name is null)
            {
                Expect(ref reader, JsonTokenType.String);
                name = reader.GetString();
            }
            else if (reader.ValueTextEquals("instance_id"u8) && instance is null)
            {
                Expect(ref reader, JsonTokenType.Number);
                // QEMU before 4.2 printed it as a signed number.
                instance = unchecked((uint)reader.GetInt64());
            }
            else
            {
                SkipValue(ref reader);
            }
        }
        if (name is null || instance is null)
            throw new JsonException("a device has no name or no instance_id");
        return new DescribedDevice(name, instance.Value);
    }

    private static bool NextProperty(ref Utf8JsonReader reader) => reader.Read() && reader.TokenType == JsonTokenType.PropertyName;

    private static void Expect(ref Utf8JsonReader reader, JsonTokenType type)
    {
        if (!reader.Read() || reader.TokenType != type)
            throw new JsonException($"a {type} was expected");
    }

    private static void SkipValue(ref Utf8JsonReader reader)
    {
        reader.Read();
        reader.Skip();
    }
}
