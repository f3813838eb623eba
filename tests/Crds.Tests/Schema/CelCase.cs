using YamlDotNet.RepresentationModel;

namespace Bgsnap.Crds.Tests.Schema;

/// <summary>
/// A case of <c>tests/Crds.Tests/Cel</c>. Its first line is <c># expect: ok</c> or <c># expect:</c> and a part of the API server's
/// message. Of several documents each is applied after the one before, and the expectation is about the last.
/// </summary>
internal sealed record CelCase(string Name, string Expect, IReadOnlyList<YamlMappingNode> Objects)
{
    private const string Mark = "# expect: ";

    internal bool IsGood => Expect == "ok";

    internal static IEnumerable<CelCase> All() =>
        Directory.GetFiles(Repository.Path("tests", "Crds.Tests", "Cel"), "*.yaml").Order(StringComparer.Ordinal).Select(Read);

    private static CelCase Read(string path)
    {
        string text = File.ReadAllText(path);
        string first = text.Split('\n')[0];
        if (!first.StartsWith(Mark, StringComparison.Ordinal))
            throw new InvalidDataException($"{path}: the first line is not '{Mark}…'");
        YamlStream yaml = [];
        yaml.Load(new StringReader(text));
        return new CelCase(
            Path.GetFileNameWithoutExtension(path),
            first[Mark.Length..].Trim(),
            [.. yaml.Documents.Select(d => (YamlMappingNode)d.RootNode)]
        );
    }
}
