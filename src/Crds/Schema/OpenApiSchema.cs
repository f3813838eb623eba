using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using System.Reflection;
using System.Text.Json.Nodes;
using System.Text.Json.Schema;
using System.Text.Json.Serialization.Metadata;
using k8s.Models;

namespace Bgsnap.Crds.Schema;

/// <summary>
/// The structural schema of a C# type: .NET's own JSON schema, adapted to what Kubernetes requires, plus what the attributes specify.
/// </summary>
internal static class OpenApiSchema
{
    /// <summary>The schema of a type.</summary>
    internal static JsonNode Of(JsonTypeInfo type) =>
        type.GetJsonSchemaAsNode(new JsonSchemaExporterOptions { TreatNullObliviousAsNonNullable = true, TransformSchemaNode = Transform });

    private static JsonNode Transform(JsonSchemaExporterContext context, JsonNode node)
    {
        if (node is not JsonObject schema)
            return node;
        Type type = context.TypeInfo.Type;
        if (type == typeof(V1Condition))
            schema = Condition();
        else if (type == typeof(V1ObjectMeta))
            schema = new JsonObject { ["type"] = "object" };
        // Another kind's object is kept unchanged.
        else if (type == typeof(JsonObject))
            schema = new JsonObject { ["type"] = "object", ["x-kubernetes-preserve-unknown-fields"] = true };
        else
        {
            WithoutNull(schema);
            if (schema["type"]?.GetValue<string>() == "object")
                Required(schema, context.TypeInfo);
            if ((Nullable.GetUnderlyingType(type) ?? type) == typeof(long))
                schema["format"] = "int64";
        }
        if (context.PropertyInfo?.AttributeProvider is { } attributes)
            Describe(schema, attributes);
        Rules(schema, context.PropertyInfo?.AttributeProvider);
        Rules(schema, type);
        return InOrder(schema);
    }

    // ["string", "null"] is not allowed in a structural schema: an optional field is simply not required.
    private static void WithoutNull(JsonObject schema)
    {
        if (schema["type"] is JsonArray types)
            schema["type"] = types.Select(t => t!.GetValue<string>()).Single(t => t != "null");
        schema.Remove("default");
    }

    private static void Required(JsonObject schema, JsonTypeInfo type)
    {
        schema.Remove("required");
        JsonArray required = [];
        foreach (JsonPropertyInfo p in type.Properties.Where(p => p.AttributeProvider?.IsDefined(typeof(RequiredAttribute), true) == true))
            required.Add((JsonNode)p.Name);
        if (required.Count > 0)
            schema["required"] = required;
    }

    private static void Describe(JsonObject schema, ICustomAttributeProvider attributes)
    {
        foreach (object a in attributes.GetCustomAttributes(true))
        {
            switch (a)
            {
                case DescriptionAttribute d:
                    schema["description"] = d.Description;
                    break;
                case AllowedValuesAttribute v:
                    schema["enum"] = new JsonArray([.. v.Values.Select(x => (JsonNode)x!.ToString()!)]);
                    break;
                case AllowedItemsAttribute v:
                    schema["items"]!["enum"] = new JsonArray([.. v.Values.Select(x => (JsonNode)x)]);
                    break;
                case DefaultValueAttribute d:
                    schema["default"] = (string?)d.Value;
                    break;
                case StringLengthAttribute l:
                    schema["maxLength"] = l.MaximumLength;
                    if (l.MinimumLength > 0)
                        schema["minLength"] = l.MinimumLength;
                    break;
                case MaxItemsAttribute l:
                    schema["maxItems"] = l.Count;
                    break;
                case ItemLengthAttribute l:
                    (schema["items"]!["minLength"], schema["items"]!["maxLength"]) = (l.Least, l.Most);
                    break;
                case ListSetAttribute:
                    schema["x-kubernetes-list-type"] = "set";
                    break;
                case MapLimitsAttribute l:
                    schema["maxProperties"] = l.Count;
                    schema["additionalProperties"]!["maxLength"] = l.Length;
                    break;
                case RangeAttribute r:
                    schema["minimum"] = (int)r.Minimum;
                    schema["maximum"] = (int)r.Maximum;
                    break;
                case ListMapKeyAttribute k:
                    schema["x-kubernetes-list-type"] = "map";
                    schema["x-kubernetes-list-map-keys"] = new JsonArray(k.Key);
                    break;
            }
        }
    }

    private static void Rules(JsonObject schema, ICustomAttributeProvider? attributes)
    {
        foreach (CelAttribute rule in attributes?.GetCustomAttributes(typeof(CelAttribute), true).Cast<CelAttribute>() ?? [])
        {
            if (schema["x-kubernetes-validations"] is not JsonArray rules)
                schema["x-kubernetes-validations"] = rules = [];
            rules.Add((JsonNode)new JsonObject { ["rule"] = rule.Rule, ["message"] = rule.Message });
        }
    }

    // metav1.Condition, with the limits that apimachinery documents.
    private static JsonObject Condition() =>
        new()
        {
            ["type"] = "object",
            ["required"] = new JsonArray("type", "status", "lastTransitionTime", "reason", "message"),
            ["properties"] = new JsonObject
            {
                ["type"] = new JsonObject
                {
                    ["type"] = "string",
                    ["maxLength"] = 316,
                    ["description"] = "Type of the condition.",
                },
                ["status"] = new JsonObject
                {
                    ["type"] = "string",
                    ["enum"] = new JsonArray("True", "False", "Unknown"),
                    ["description"] = "True, False or Unknown.",
                },
                ["observedGeneration"] = new JsonObject
                {
                    ["type"] = "integer",
                    ["format"] = "int64",
                    ["minimum"] = 0,
                    ["description"] = "Generation that the condition is about.",
                },
                ["lastTransitionTime"] = new JsonObject
                {
                    ["type"] = "string",
                    ["format"] = "date-time",
                    ["description"] = "When the status last changed.",
                },
                ["reason"] = new JsonObject
                {
                    ["type"] = "string",
                    ["maxLength"] = 1024,
                    ["minLength"] = 1,
                    ["description"] = "Why, in one word.",
                },
                ["message"] = new JsonObject
                {
                    ["type"] = "string",
                    ["maxLength"] = 32768,
                    ["description"] = "Why, and what helps, in words.",
                },
            },
        };

    // What readers look for first comes first; the properties keep the order of the C# type.
    private static readonly string[] Order = ["type", "format", "description", "default", "enum", "required", "properties", "items"];

    private static JsonObject InOrder(JsonObject schema)
    {
        JsonObject ordered = [];
        foreach (string key in Order.Where(schema.ContainsKey).Concat(schema.Select(p => p.Key).Except(Order)).ToList())
            ordered[key] = schema[key]?.DeepClone();
        return ordered;
    }
}
