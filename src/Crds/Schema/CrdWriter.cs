using System.ComponentModel;
using System.Reflection;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using k8s;
using k8s.Models;

namespace Bgsnap.Crds.Schema;

/// <summary>Writes a CustomResourceDefinition (apiextensions.k8s.io/v1) from a C# type and its attributes.</summary>
public static class CrdWriter
{
    /// <summary>The definition of a kind.</summary>
    public static JsonObject Write<T>(ResourceType<T> type)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        KubernetesEntityAttribute entity = typeof(T).GetCustomAttribute<KubernetesEntityAttribute>()!;
        ResourceNamesAttribute names = typeof(T).GetCustomAttribute<ResourceNamesAttribute>()!;
        return new JsonObject
        {
            ["apiVersion"] = "apiextensions.k8s.io/v1",
            ["kind"] = "CustomResourceDefinition",
            ["metadata"] = new JsonObject { ["name"] = $"{entity.PluralName}.{entity.Group}" },
            ["spec"] = new JsonObject
            {
                ["group"] = entity.Group,
                ["names"] = new JsonObject
                {
                    ["kind"] = entity.Kind,
                    ["listKind"] = entity.Kind + "List",
                    ["plural"] = entity.PluralName,
                    ["singular"] = names.Singular,
                    ["shortNames"] = new JsonArray(names.ShortName),
                    ["categories"] = new JsonArray("bgsnap"),
                },
                ["scope"] = "Namespaced",
                ["versions"] = new JsonArray(
                    new JsonObject
                    {
                        ["name"] = entity.ApiVersion,
                        ["served"] = true,
                        ["storage"] = true,
                        ["subresources"] = new JsonObject { ["status"] = new JsonObject() },
                        ["additionalPrinterColumns"] = Columns(typeof(T)),
                        ["schema"] = new JsonObject { ["openAPIV3Schema"] = Root(type) },
                    }
                ),
            },
        };
    }

    private static JsonObject Root<T>(ResourceType<T> type)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        JsonObject schema = (JsonObject)OpenApiSchema.Of(type.Json);
        schema["description"] = typeof(T).GetCustomAttribute<DescriptionAttribute>()!.Description;
        JsonObject properties = (JsonObject)schema["properties"]!;
        properties["apiVersion"] = new JsonObject { ["type"] = "string", ["description"] = "Version of the schema: group and version." };
        properties["kind"] = new JsonObject { ["type"] = "string", ["description"] = "The kind of this object." };
        properties["metadata"] = new JsonObject { ["type"] = "object" };
        return schema;
    }

    private static JsonArray Columns(Type type)
    {
        JsonArray columns = [];
        foreach (PrinterColumnAttribute c in type.GetCustomAttributes<PrinterColumnAttribute>())
        {
            JsonObject column = new()
            {
                ["name"] = c.Name,
                ["type"] = c.Type,
                ["jsonPath"] = c.JsonPath,
            };
            if (c.Priority != 0)
                column["priority"] = c.Priority;
            columns.Add((JsonNode)column);
        }
        return columns;
    }
}
