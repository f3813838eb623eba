using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>
/// The objects of a kustomization that only lists resources, as all below config/ do but config/metrics. Custom
/// resource definitions are left out: they are made by `make manifests`, and other tests are about them.
/// </summary>
public static class Kustomization
{
    public static List<KubernetesObject> Build(string directory)
    {
        JsonObject file = (JsonObject)Yaml.Documents(File.ReadAllText(Path.Combine(directory, "kustomization.yaml"))).Single();
        Assert.Equal(["apiVersion", "kind", "resources"], file.Select(p => p.Key).Order(StringComparer.Ordinal));
        List<KubernetesObject> objects = [];
        foreach (string resource in file["resources"]!.AsArray().Select(r => (string)r!))
        {
            string path = Path.GetFullPath(Path.Combine(directory, resource));
            if (Directory.Exists(path))
                objects.AddRange(Path.GetFileName(path) == "crd" ? [] : Build(path));
            else if (Path.GetFileName(Path.GetDirectoryName(path)) != "crd")
                objects.AddRange(KubernetesObject.Parse(File.ReadAllText(path)));
        }
        return objects;
    }
}
