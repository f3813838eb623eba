using System.Reflection;

namespace Bgsnap.Vocabulary;

/// <summary>
/// Every reason that a condition, an event, a task or an exit of the command line can carry, by family: <c>Reasons.Refused.cs</c> and the
/// others. <c>make manifests</c> writes docs/reasons.md from them.
/// </summary>
/// <remarks>
/// A name is part of the API: scripts and alerts compare it. Another word for the same thing breaks them.
/// </remarks>
public static partial class Reasons
{
    /// <summary>All of them, family by family. For documents and tests: it reads this class by reflection.</summary>
    public static IReadOnlyList<Reason> All { get; } =
    [
        .. typeof(Reasons)
            .GetFields(BindingFlags.Public | BindingFlags.Static)
            .Where(f => f.IsLiteral)
            .Select(f => (f.Name, Says: f.GetCustomAttribute<ReasonAttribute>()!))
            .Select(f => new Reason(f.Name, f.Says.Family, f.Says.SeenAs, f.Says.Meaning, f.Says.Remedy))
            .OrderBy(r => r.Family)
            .ThenBy(r => r.Name, StringComparer.Ordinal),
    ];
}
