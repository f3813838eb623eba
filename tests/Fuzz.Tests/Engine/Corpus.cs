using System.Runtime.CompilerServices;
using System.Security.Cryptography;

namespace Bgsnap.Fuzz.Engine;

/// <summary>Inputs in files: <c>corpus/&lt;reader&gt;/&lt;name&gt;</c>.</summary>
internal static class Corpus
{
    /// <summary>The corpus beside the program.</summary>
    internal static string Folder => Path.Join(AppContext.BaseDirectory, "corpus");

    /// <summary>The corpus in the repository, for what a run adds to it; called by the program beside it.</summary>
    internal static string Source([CallerFilePath] string program = "") => Path.GetFullPath(Path.Join(program, "../corpus"));

    /// <summary>All inputs of a reader in a folder, in the order of their names.</summary>
    internal static IReadOnlyList<(string Name, byte[] Input)> Read(string folder, string target)
    {
        string path = Path.Join(folder, target);
        return Directory.Exists(path)
            ? [.. Directory.EnumerateFiles(path).Order(StringComparer.Ordinal).Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))]
            : [];
    }

    /// <summary>Keeps an input under a name made of its content.</summary>
    /// <returns>The file.</returns>
    internal static string Keep(string folder, string target, string kind, byte[] input)
    {
        string path = Path.Join(folder, target);
        Directory.CreateDirectory(path);
        string file = Path.Join(path, $"{kind}-{Convert.ToHexStringLower(SHA256.HashData(input))[..12]}");
        File.WriteAllBytes(file, input);
        return file;
    }
}
