using System.Text.Json;
using System.Text.Unicode;

namespace Bgsnap.Qemu.Qmp;

/// <summary>Reads JSON that another party wrote.</summary>
/// <remarks>
/// The runtime's reader accepts text that it cannot return: bytes that are not UTF-8, and half a surrogate pair (<c>"\ud800"</c>).
/// <c>GetString</c>, or looking up a member, would throw InvalidOperationException later, far from where the code expects bad input.
/// </remarks>
internal static class ForeignJson
{
    /// <summary>Parses a document, and checks that every string in it can be read.</summary>
    /// <exception cref="JsonException">The text is not JSON, or holds a string that is not valid Unicode.</exception>
    internal static JsonDocument Parse(byte[] utf8)
    {
        if (!Utf8.IsValid(utf8))
            throw new JsonException("it is not UTF-8");
        JsonDocument document = JsonDocument.Parse(utf8);
        if (utf8.AsSpan().IndexOf("\\u"u8) < 0 || AllTextsAreWhole(utf8))
            return document;
        document.Dispose();
        throw new JsonException("it holds half a surrogate pair");
    }

    private static bool AllTextsAreWhole(byte[] utf8)
    {
        Utf8JsonReader reader = new(utf8);
        try
        {
            while (reader.Read())
            {
                if (reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName && reader.ValueIsEscaped)
                    _ = reader.GetString();
            }
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }
}
