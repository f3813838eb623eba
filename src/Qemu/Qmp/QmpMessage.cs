using System.Text.Json;

namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// One message of a monitor, checked to have the form of docs/interop/qmp-spec: code that reads an event or an error need not check again.
/// </summary>
internal static class QmpMessage
{
    /// <summary>Parses a message.</summary>
    /// <exception cref="JsonException">The text is not JSON, or not a QMP message.</exception>
    internal static JsonDocument Parse(byte[] utf8)
    {
        JsonDocument document = ForeignJson.Parse(utf8);
        if (Fits(document.RootElement))
            return document;
        document.Dispose();
        throw new JsonException("it is not a QMP message");
    }

    private static bool Fits(JsonElement message) =>
        message.ValueKind == JsonValueKind.Object
        && (!message.TryGetProperty("event", out JsonElement name) || (name.ValueKind == JsonValueKind.String && HasTime(message)))
        && (!message.TryGetProperty("error", out JsonElement error) || (IsText(error, "class") && IsText(error, "desc")));

    private static bool HasTime(JsonElement message) =>
        message.TryGetProperty("timestamp", out JsonElement time)
        && time.ValueKind == JsonValueKind.Object
        && IsWhole(time, "seconds")
        && IsWhole(time, "microseconds");

    private static bool IsWhole(JsonElement of, string member) =>
        of.TryGetProperty(member, out JsonElement value) && value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out _);

    private static bool IsText(JsonElement of, string member) =>
        of.ValueKind == JsonValueKind.Object && of.TryGetProperty(member, out JsonElement value) && value.ValueKind == JsonValueKind.String;
}
