namespace Bgsnap.Vocabulary;

/// <summary>Who gives a reason, and at which point of the work.</summary>
public enum ReasonFamily
{
    /// <summary>The node agent refuses before it begins.</summary>
    Refused,

    /// <summary>The node agent abandons what it began.</summary>
    Abandoned,

    /// <summary>The node agent's restores.</summary>
    AgentRestore,

    /// <summary>The other exit codes of the command line.</summary>
    CommandLine,

    /// <summary>Only tasks of the node agent, and what the operator copies from them.</summary>
    Task,

    /// <summary>The operator, about a snapshot; some also about a restore or a schedule.</summary>
    Snapshot,

    /// <summary>The operator, about a restore.</summary>
    Restore,

    /// <summary>The operator, about a KubeVirt VM.</summary>
    KubeVirt,

    /// <summary>The operator, about the storage's VolumeSnapshots.</summary>
    VolumeSnapshot,

    /// <summary>The operator, about a schedule.</summary>
    Schedule,
}

/// <summary>A reason that a condition, an event, a task or an exit of the command line can carry.</summary>
/// <param name="Name">The word for programs, as in metav1.Condition.</param>
/// <param name="Family">Who gives it, and when.</param>
/// <param name="SeenAs">Where it is seen.</param>
/// <param name="Meaning">What it means; a line of Markdown.</param>
/// <param name="Remedy">What to do; a line of Markdown.</param>
public sealed record Reason(string Name, ReasonFamily Family, string SeenAs, string Meaning, string Remedy);

/// <summary>Says what a constant of <see cref="Reasons"/> means.</summary>
/// <param name="family">Who gives it, and when.</param>
/// <param name="seenAs">Where it is seen.</param>
/// <param name="meaning">What it means; a line of Markdown.</param>
/// <param name="remedy">What to do; a line of Markdown.</param>
[AttributeUsage(AttributeTargets.Field)]
internal sealed class ReasonAttribute(ReasonFamily family, string seenAs, string meaning, string remedy) : Attribute
{
    public ReasonFamily Family => family;

    public string SeenAs => seenAs;

    public string Meaning => meaning;

    public string Remedy => remedy;
}

/// <summary>Where reasons are seen.</summary>
internal static class Seen
{
    internal const string And = ", ";
    internal const string Exit1 = "exit code 1";
    internal const string Exit3 = "exit code 3";
    internal const string Task = "failed task";
    internal const string Waiting = "not Ready yet";
    internal const string Failed = "failed";
    internal const string Ready = "Ready";
    internal const string Condition = "another condition";
    internal const string Event = "event";
}
