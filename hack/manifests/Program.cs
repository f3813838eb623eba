using Bgsnap.Manifests;

// Writes the CustomResourceDefinitions into each directory that is named: `make manifests`.
if (args.Length == 0)
{
    Console.Error.WriteLine("usage: manifests DIRECTORY...");
    return 2;
}
foreach (string directory in args)
foreach ((string fileName, string text) in CrdYaml.Files())
    File.WriteAllText(Path.Combine(directory, fileName), text);
return 0;
