using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Bgsnap.Qemu.Qmp;

/// <summary>Builds the small JSON objects that QMP commands take.</summary>
public static class QmpJson
{
    /// <summary>
    /// An object with these members; values are strings, booleans, whole numbers, or text that is already JSON (<see cref="Raw"/>).
    /// </summary>
    public static string Object(params ReadOnlySpan<(string Name, object Value)> members)
    {
        StringBuilder json = new("{");
        foreach ((string name, object value) in members)
        {
            if (json.Length > 1)
                json.Append(',');
            json.Append('"').Append(JsonEncodedText.Encode(name)).Append("\":");
            _ = value switch
            {
                string s => json.Append('"').Append(JsonEncodedText.Encode(s)).Append('"'),
                bool b => json.Append(b ? "true" : "false"),
                int i => json.Append(i.ToString(CultureInfo.InvariantCulture)),
                long l => json.Append(l.ToString(CultureInfo.InvariantCulture)),
                Raw r => json.Append(r.Json),
                _ => throw new ArgumentException($"{value.GetType()} has no QMP form", nameof(members)),
            };
        }
        return json.Append('}').ToString();
    }

    /// <summary>Text that is already JSON.</summary>
    public sealed record Raw(string Json);
}
