using System.Text.Json;
using System.Text.Json.Serialization;

namespace Bgsnap.ControllerRuntime.Client;

/// <summary>The JSON that the client itself reads and writes; made at compile time, since the node agent is a native binary.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull
)]
[JsonSerializable(typeof(ApiStatus))]
[JsonSerializable(typeof(JsonElement))]
public sealed partial class RuntimeJson : JsonSerializerContext;
