using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>What a rendering said: an exit code, and objects or a message.</summary>
public sealed record Rendering(int ExitCode, string Output, string Error)
{
    private readonly Lazy<Dictionary<string, KubernetesObject>> _objects = new(() =>
        KubernetesObject.Parse(Output).ToDictionary(o => o.Id)
    );

    /// <summary>The objects by Kind/name. One that is rendered twice is an error.</summary>
    public IReadOnlyDictionary<string, KubernetesObject> Objects => _objects.Value;

    public KubernetesObject this[string id] =>
        Objects.TryGetValue(id, out KubernetesObject? found)
            ? found
            : throw new KeyNotFoundException($"no {id} among {string.Join(", ", Objects.Keys)}");

    public IEnumerable<KubernetesObject> OfKind(params string[] kinds) => Objects.Values.Where(o => kinds.Contains(o.Kind));

    public Rendering Succeeded()
    {
        Assert.True(ExitCode == 0, $"the chart was not rendered: {Error}");
        return this;
    }

    /// <summary>All values that were set beside the defaults, for messages.</summary>
    public static string Describe(JsonObject values) => values.Count == 0 ? "the default values" : values.ToJsonString();
}
