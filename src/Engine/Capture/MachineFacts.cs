using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Facts that a correct snapshot depends on and that QEMU does not keep constant for the agent. They are read before the first decision and
/// again after the point in time. A difference fails the capture, and the message names it.
/// </summary>
/// <remarks>
/// The table below says which fact is read where, and the code runs by it: a fact that is added to the table is read in both places, or
/// <see cref="Compare"/> throws. The table omits what the stop window proves itself: the run state (<see cref="WindowEvents"/>,
/// <see cref="StrandedGuest"/>), and that no migration is in progress (a dump that holds the guest cannot begin beside one;
/// <see cref="MigrationWatch"/>). Events show what changed and changed back. Both readings happen while the guest runs and cost it nothing.
/// </remarks>
internal sealed class MachineFacts(IQmpMonitor qmp, CheckedProcess process)
{
    /// <summary>When a fact is first read.</summary>
    internal enum Since
    {
        /// <summary>Before the preflight, so that no change after the preflight's decisions is missed.</summary>
        BeforePreflight,

        /// <summary>When the agent's own engine looks for the guest's memory; QEMU's engine sends its blocks by itself.</summary>
        BeforeMemory,
    }

    /// <summary>A row of the table.</summary>
    /// <param name="What">The name of one such item in a message.</param>
    /// <param name="First">When it is first read. <see cref="Compare"/> reads all facts the second time.</param>
    /// <param name="Read">Reads the values by name.</param>
    private sealed record Fact(string What, Since First, Func<MachineFacts, IReadOnlyDictionary<string, string>> Read);

    private static readonly Fact[] Table =
    [
        new("device", Since.BeforePreflight, f => MachineState.Devices(f.Qmp)),
        new("disk", Since.BeforePreflight, f => MachineState.Disks(f.Qmp, f.Below)),
        new("hardware", Since.BeforePreflight, f => MachineState.Hardware(f.Process)),
        new("migration blocker", Since.BeforePreflight, f => MachineState.Blockers(f.Qmp)),
        new("RAM block", Since.BeforeMemory, f => MachineState.Memory(f.ReadMemory())),
        new("process with the guest's memory", Since.BeforeMemory, f => MachineState.Sharers(f.Process, f.Blocks)),
    ];

    /// <summary>Events after which a fact has changed, even if it looks the same, with the text for the message.</summary>
    private static readonly Dictionary<string, string> Changes = new(StringComparer.Ordinal)
    {
        ["DEVICE_DELETED"] = "{0} was removed",
        ["MEMORY_DEVICE_SIZE_CHANGE"] = "memory device {0} changed its size",
    };

    private readonly Dictionary<Fact, IReadOnlyDictionary<string, string>> _known = [];
    private List<RamBlockLine> _places = [];
    private string? _happened;
    private bool _suspended;
    private bool _closed;

    /// <summary>The guest's memory, once the agent has looked for it.</summary>
    internal IReadOnlyList<RamBlock> Blocks { get; private set; } = [];

    /// <summary>Returns the node below one of our nodes that a disk shows meanwhile.</summary>
    internal Func<string, string> Below { get; set; } = node => node;

    private IQmpMonitor Qmp => qmp;

    private CheckedProcess Process => process;

    /// <summary>Reads the facts for the first time.</summary>
    internal void Establish(Since now)
    {
        foreach (Fact fact in Table.Where(f => f.First == now))
            _known[fact] = fact.Read(this);
    }

    /// <summary>Examines an event, from the first reading until after the point in time.</summary>
    internal void Note(QmpEvent e)
    {
        if (_closed)
            return;
        _suspended = e.Name switch
        {
            "SUSPEND" => true,
            "WAKEUP" => false,
            _ => _suspended,
        };
        if (Changes.TryGetValue(e.Name, out string? text) && MachineState.SubjectOf(e) is { } subject)
            _happened ??= string.Format(System.Globalization.CultureInfo.InvariantCulture, text, subject);
    }

    /// <summary>Whether the guest has suspended itself since the first reading and was not woken up.</summary>
    internal bool IsSuspended => _suspended;

    /// <summary>Reads everything again, after the point in time.</summary>
    /// <param name="all">The agent's engine: includes its memory.</param>
    /// <exception cref="CaptureFailedException">A fact has changed.</exception>
    internal void Compare(bool all)
    {
        _closed = true;
        if (_happened is not null)
            throw Changed(_happened);
        foreach (Fact fact in Table.Where(f => all || f.First == Since.BeforePreflight))
        {
            if (!_known.TryGetValue(fact, out IReadOnlyDictionary<string, string>? before))
                throw new InvalidOperationException($"{fact.What} was never read");
            IReadOnlyDictionary<string, string> now;
            try
            {
                now = fact.Read(this);
            }
            catch (RefusedException e)
            {
                // It was there before the window and cannot even be read now.
                throw Changed($"{fact.What}: {e.Message}");
            }
            if (DifferenceOf(before, now) is { } difference)
                throw Changed($"{fact.What} {difference}");
        }
    }

    /// <summary>The first difference: what was added, removed or changed; null if nothing differs.</summary>
    internal static string? DifferenceOf(IReadOnlyDictionary<string, string> before, IReadOnlyDictionary<string, string> now)
    {
        foreach ((string name, string value) in now)
        {
            if (!before.TryGetValue(name, out string? old))
                return $"{name} was added";
            if (old != value)
                return $"{name} changed from '{old}' to '{value}'";
        }
        return before.Keys.FirstOrDefault(n => !now.ContainsKey(n)) is { } gone ? $"{gone} was removed" : null;
    }

    private IReadOnlyList<RamBlock> ReadMemory()
    {
        IReadOnlyList<RamBlock> blocks = RamBlockTable.Read(qmp, process, ref _places);
        if (Blocks.Count == 0)
            Blocks = blocks;
        return blocks;
    }

    private static CaptureFailedException Changed(string what) =>
        new(
            Reasons.MachineChanged,
            $"the machine changed between the capture's first look at it and its point in time: {what}; "
                + "the guest runs on, and no snapshot was kept. Try again"
        );
}
