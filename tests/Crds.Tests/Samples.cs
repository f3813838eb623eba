using System.Text.Json;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using k8s.Models;

namespace Bgsnap.Crds.Tests;

/// <summary>Objects and watch lines for the tests.</summary>
internal static class Samples
{
    internal static SnapshotTask Task(string name, string version, string? node = null) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = "ns",
                Uid = "uid-" + name,
                ResourceVersion = version,
            },
            Spec = new SnapshotTaskSpec
            {
                NodeName = node ?? "node-1",
                Directory = name,
                Carrier = new PodTarget
                {
                    PodName = "p",
                    PodUID = "u",
                    Container = "c",
                },
            },
        };

    internal static ResourceList<SnapshotTask> List(string version, params SnapshotTask[] items) =>
        new()
        {
            Metadata = new V1ListMeta { ResourceVersion = version },
            Items = [.. items],
        };

    /// <summary>A line of a watch, as the API server writes it.</summary>
    internal static string Line(string type, SnapshotTask item) =>
        $$"""{"type":"{{type}}","object":{{JsonSerializer.Serialize(item, BgsnapJson.Default.SnapshotTask)}} }""";

    internal static string Bookmark(string version) =>
        $$$$"""{"type":"BOOKMARK","object":{"kind":"SnapshotTask","apiVersion":"bgsnap.io/v1alpha1","metadata":{"resourceVersion":"{{{{version}}}}","creationTimestamp":null}}}""";

    internal const string Gone =
        """{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 3 (90)","reason":"Expired","code":410}}""";

    internal static async Task Within(Func<bool> condition, string what)
    {
        for (int i = 0; i < 2000; i++)
        {
            if (condition())
                return;
            await System.Threading.Tasks.Task.Delay(5);
        }
        Assert.Fail($"after 10 s still not: {what}");
    }
}
