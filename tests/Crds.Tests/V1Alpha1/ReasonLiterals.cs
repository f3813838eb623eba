using System.Text.RegularExpressions;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Vocabulary;

namespace Bgsnap.Crds.Tests.V1Alpha1;

/// <summary>Finds reasons that C# source writes as text instead of using <see cref="Reasons"/>.</summary>
internal static partial class ReasonLiterals
{
    // Kubernetes and KubeVirt have phases and conditions of the same name.
    private static readonly string[] Homonyms = [Reasons.Failed, Reasons.Paused];

    private static readonly Regex Listed = new(
        $"\"({string.Join('|', Reasons.All.Select(r => r.Name).Except(Homonyms))})\"",
        RegexOptions.Compiled
    );

    /// <summary>Every reason that the text of a file gives as a literal, with its line.</summary>
    internal static IEnumerable<string> In(string source)
    {
        string[] lines = source.Split('\n');
        for (int i = 0; i < lines.Length; i++)
        {
            // Phases, condition types and indications are constants of their own, in the API.
            if (lines[i].TrimStart().StartsWith("//", StringComparison.Ordinal) || OwnConstant().IsMatch(lines[i]))
                continue;
            foreach (Match m in Listed.Matches(lines[i]))
                yield return $"{i + 1}: {m.Value}";
        }
        foreach (Match m in Thrown().Matches(source).Concat(Compared().Matches(source)))
        {
            string name = m.Groups[1].Value;
            int line = source[..m.Index].Count(c => c == '\n') + 1;
            if (!Reasons.All.Any(r => r.Name == name))
                yield return $"{line}: {name}, which is not in the list";
            else if (Homonyms.Contains(name))
                yield return $"{line}: \"{name}\"";
        }
    }

    [GeneratedRegex("""public const string (\w+) = "\1";""")]
    private static partial Regex OwnConstant();

    // What carries a reason as its first argument; an error line carries it after its type.
    [GeneratedRegex(
        """\b(?:(?:Capture|Restore)?(?:Refused|Failed)Exception|TaskFailure|Waiting|Hopeless|InvalidScheduleException|TerminalException"""
            + """|NotReadyException|new\(\s*"error",|ErrorLine\(\s*"error",)\s*\(?\s*"([A-Z]\w+)\b"""
    )]
    private static partial Regex Thrown();

    [GeneratedRegex("\\bReason\\s*(?:==|!=|=|:|is|is not)\\s*\"([A-Z]\\w+)\"")]
    private static partial Regex Compared();
}
