using System.Text.RegularExpressions;

namespace Bgsnap.Operator.Tests;

/// <summary>Which folders of the operator's sources use which, read from namespaces, usings and names.</summary>
/// <remarks>
/// A file uses a folder by a using, by a qualified name, or, for a folder above its own, by the name of a type alone: C# finds the types of
/// enclosing namespaces without a using.
/// </remarks>
internal sealed partial class FolderGraph
{
    private const string Root = "Bgsnap.Operator";
    private readonly ILookup<string, string> _types;
    private readonly SortedDictionary<string, SortedSet<string>> _uses = new(StringComparer.Ordinal);

    /// <summary>Reads the sources.</summary>
    /// <param name="files">The folder of each file relative to the project, with dots; empty: the project itself. And its text.</param>
    public FolderGraph(IReadOnlyCollection<(string Folder, string Text)> files)
    {
        List<(string Folder, string Code)> sources = [.. files.Select(f => (f.Folder, Comment().Replace(f.Text, "")))];
        _types = sources
            .SelectMany(s => Declaration().Matches(s.Code).Select(m => (s.Folder, Type: m.Groups["name"].Value)))
            .ToLookup(t => t.Folder, t => t.Type);
        foreach ((string folder, string code) in sources)
        {
            if (!_uses.TryGetValue(folder, out SortedSet<string>? used))
                _uses[folder] = used = new SortedSet<string>(StringComparer.Ordinal);
            used.UnionWith(Qualified(code).Concat(Relative(code)).Concat(FromAbove(folder, code)).Where(f => f != folder));
        }
    }

    /// <summary>A circle of folders, as <c>A -> B -> A</c>; null: the folders have no circle.</summary>
    public string? Circle() => Circle(_uses);

    /// <summary>The same for the folders of the first level, each with all below it.</summary>
    public string? TopCircle()
    {
        SortedDictionary<string, SortedSet<string>> top = new(StringComparer.Ordinal);
        foreach ((string folder, SortedSet<string> used) in _uses)
        {
            if (!top.TryGetValue(Top(folder), out SortedSet<string>? all))
                top[Top(folder)] = all = new SortedSet<string>(StringComparer.Ordinal);
            all.UnionWith(used.Select(Top).Where(t => t != Top(folder)));
        }
        return Circle(top);
    }

    private static string Top(string folder) => folder.Split('.')[0];

    private static string? Circle(SortedDictionary<string, SortedSet<string>> uses)
    {
        HashSet<string> sound = [];
        List<string> path = [];
        return uses.Keys.Select(From).FirstOrDefault(circle => circle is not null);

        string? From(string folder)
        {
            if (path.IndexOf(folder) is >= 0 and int at)
                return string.Join(" -> ", path.Skip(at).Append(folder).Select(f => f.Length == 0 ? Root : f));
            if (sound.Contains(folder) || !uses.TryGetValue(folder, out SortedSet<string>? used))
                return null;
            path.Add(folder);
            string? found = used.Select(From).FirstOrDefault(circle => circle is not null);
            path.RemoveAt(path.Count - 1);
            sound.Add(folder);
            return found;
        }
    }

    // Usings and fully qualified names.
    private IEnumerable<string> Qualified(string code) =>
        FullName().Matches(code).Where(m => !m.Groups["own"].Success).Select(m => Longest(m.Groups["path"].Value.TrimStart('.')));

    private string Longest(string path)
    {
        while (path.Length > 0 && !_types.Contains(path))
            path = path.Contains('.', StringComparison.Ordinal) ? path[..path.LastIndexOf('.')] : "";
        return path;
    }

    // Such as Restores.RestoreState, which needs no using in a namespace next to Restores.
    private IEnumerable<string> Relative(string code) =>
        from types in _types
        where types.Key.Length > 0
        from type in types
        where Regex.IsMatch(code, $@"(?<![\w.]){Regex.Escape(types.Key)}\.{type}\b")
        select types.Key;

    private IEnumerable<string> FromAbove(string folder, string code) =>
        from types in _types
        where folder.Length > 0 && (types.Key.Length == 0 || folder.StartsWith(types.Key + ".", StringComparison.Ordinal))
        from type in types
        where Regex.IsMatch(code, $@"(?<![\w.]){type}\b")
        select types.Key;

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();

    [GeneratedRegex(@"\b(?:class|record struct|record|struct|interface|enum)\s+(?<name>[A-Z]\w*)")]
    private static partial Regex Declaration();

    [GeneratedRegex(@"(?<own>namespace\s+)?\bBgsnap\.Operator(?<path>(?:\.\w+)*)")]
    private static partial Regex FullName();
}
