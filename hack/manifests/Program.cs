using Bgsnap.Manifests;

// `make reasons`: writes the page of reasons.
if (args is ["--reasons", var page])
{
    File.WriteAllText(page, ReasonsPage.Text());
    return 0;
}

// `make manifests`: writes the CustomResourceDefinitions into each directory that is named.
if (args.Length == 0 || args.Any(a => a.StartsWith('-') && a != "--legacy"))
{
    Console.Error.WriteLine("usage: manifests [DIRECTORY...] [--legacy DIRECTORY...]    --legacy: for Kubernetes 1.20");
    Console.Error.WriteLine("       manifests --reasons FILE");
    return 2;
}
bool forLegacy = false;
foreach (string argument in args)
{
    if (argument == "--legacy")
    {
        forLegacy = true;
        continue;
    }
    Directory.CreateDirectory(argument);
    foreach ((string fileName, string text) in CrdYaml.Files(forLegacy))
        File.WriteAllText(Path.Combine(argument, fileName), text);
}
return 0;
