using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Bgsnap.ControllerRuntime.Client;

/// <summary>One line of a watch.</summary>
/// <param name="Type">ADDED, MODIFIED, DELETED or BOOKMARK.</param>
/// <param name="Item">The object; in a bookmark only the resource version is valid.</param>
public readonly record struct WatchEvent<T>(string Type, T Item)
{
    /// <summary>Parses a line.</summary>
    /// <exception cref="ApiException">The line is an ERROR: 410 if the resource version is too old.</exception>
    /// <exception cref="HttpRequestException">The line is not an event: it was cut off.</exception>
    public static WatchEvent<T> Read(string line, JsonTypeInfo<T> json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(line);
            string type = document.RootElement.GetProperty("type").GetString() ?? "";
            JsonElement item = document.RootElement.GetProperty("object");
            if (type == "ERROR")
            {
                ApiStatus status = item.Deserialize(RuntimeJson.Default.ApiStatus) ?? new ApiStatus();
                throw new ApiException(status.Code ?? 500, status.Reason ?? "", status.Message ?? "the watch failed");
            }
            return new WatchEvent<T>(type, item.Deserialize(json) ?? throw new HttpRequestException("a watch event without an object"));
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new HttpRequestException("a line of the watch could not be read", e);
        }
    }
}
