using System.Globalization;
using Bgsnap.Engine.Capture;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Disks.Graph;

/// <summary>
/// A note in QEMU, stored as the name of a scratch's descriptor set: which disk the scratch belongs to. If the agent dies, the next agent
/// learns from it what to restore.
/// </summary>
/// <param name="Disk">Number of the disk; see <see cref="AgentNames"/>.</param>
/// <param name="Below">The disk's own node.</param>
internal sealed record ScratchNote(int Disk, string Below)
{
    private const string Prefix = UserfaultfdSource.Opaque + "-scratch ";

    /// <summary>The note's text for the set's <c>opaque</c>.</summary>
    internal string Text => string.Create(CultureInfo.InvariantCulture, $"{Prefix}{Disk} {Below}");

    /// <summary>Whether a set's <c>opaque</c> is such a note.</summary>
    internal static bool Is(string? opaque) => opaque?.StartsWith(Prefix, StringComparison.Ordinal) == true;

    /// <summary>Reads the notes of all scratches in a QEMU.</summary>
    internal static IReadOnlyList<ScratchNote> ReadAll(IQmpMonitor qmp)
    {
        using QmpAnswer sets = qmp.Execute("query-fdsets");
        List<ScratchNote> notes = [];
        foreach (QmpValue fd in sets.Return.EnumerateArray().SelectMany(s => s.GetProperty("fds").EnumerateArray()))
        {
            if (
                fd.TryGetProperty("opaque", out QmpValue o)
                && o.GetString() is { } text
                && text.StartsWith(Prefix, StringComparison.Ordinal)
                && text[Prefix.Length..].Split(' ', 2) is [var number, var below]
                && int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int disk)
            )
                notes.Add(new ScratchNote(disk, below));
        }
        return notes;
    }
}
